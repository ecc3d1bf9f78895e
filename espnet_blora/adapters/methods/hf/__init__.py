"""The methods taken from Hugging Face PEFT, which the extra `peft` installs."""
