# shellcheck shell=bash
# Recipes that run one language at a time: --lang names it, --hours says how much of it is trained on. Sourced by run.sh.
#
# The recipe says: language_option (the corpus's option that names a language's folder), language_conf (KEY=VALUE of the
# corpus's reader, which --corpus_option overrides), seen and unseen (folders of languages that Whisper has and lacks).

# choose_language: the names of the sets, the token that is added, the reader's options, and what experiments are called
choose_language() {
    local code option
    [ -n "${lang}" ] || die "--lang is needed, one of: ${seen:+${seen} }${unseen}; or another of the corpus (README.md)"
    [[ ${lang} =~ ^[A-Za-z][A-Za-z_-]+$ ]] || die "--lang '${lang}': the name of a language's folder is needed"
    [[ ${hours} =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--hours '${hours}': a number such as 0.5 is needed"
    code=${lang%%[-_]*}
    code=${code,,}
    if [ -z "${new_languages}" ] && [[ " ${unseen} " == *" ${lang} "* ]]; then new_languages=${code}; fi
    default_option "${language_option}=${lang}"
    default_option "hours=${hours}"
    case " ${new_languages//,/ } " in *" ${code} "*) default_option "language=${code}" ;; esac
    for option in ${language_conf}; do default_option "${option}"; done
    part=${lang}_${hours}h
    [ "${train_set}" != train ] || train_set=${part}_train
    [ "${valid_set}" != dev ] || valid_set=${lang}_dev
    [ "${test_sets}" != test ] || test_sets=${lang}_test
}

# default_option KEY=VALUE: of the corpus's reader, unless the user has given another value
default_option() {
    local given
    for given in ${corpus_options[@]+"${corpus_options[@]}"}; do
        [ "${given%%=*}" != "${1%%=*}" ] || return 0
    done
    corpus_options+=("$1")
}
