"""The page to try models: what it shows, whom it serves, what it refuses; in a browser, too."""

import json
import re
import shutil
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet_blora.bin import moments
from espnet_blora.decoding import demo
from espnet_blora.decoding.transcript import Segment, Transcript, Word
from espnet_blora.whisper.checkpoint import save_whisper
from tests import experiments
from tests.decoding.small import LAYOUT
from tests.plugin.tiny import data_dir
from tests.whispers import ending, lively

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    top = tmp_path_factory.mktemp("demo")
    whisper = str(top / "base.safetensors")
    save_whisper(ending(lively(n_text_ctx=64), LAYOUT.eot), whisper, dtype=torch.float32)
    opened = {}
    for method in ("blora", None):
        folder, _ = experiments.experiment(
            top / str(method), whisper, method, moved_by=0.5, training_data={"languages": {"zh": 3}}
        )
        opened[str(method)] = demo.Opened.of(str(folder), None, "cpu")
    files = []
    for name, seed, flags in (("old", 1, []), ("new", 2, ["--adapted"])):
        data_dir(top / name, 4, seed)
        files.append(top / f"{name}.moments")
        words = [f"--asr_exp={top}/blora", "--threads=1", f"--output={files[-1]}", *flags]
        assert moments.main([str(top / name), *words]) == 0
    opened["kept"] = demo.Opened.of(f"{top}/blora", None, "cpu", (files[0], files[1]))
    return demo.Desk(opened, top)


@pytest.fixture(scope="module")
def wave(tmp_path_factory):
    path = tmp_path_factory.mktemp("wave") / "talk.wav"
    noise = np.random.default_rng(0).standard_normal(16000)
    soundfile.write(path, 0.3 * noise * np.sin(np.arange(16000) / 900), 16000)
    return str(path)


def transcript(*words):
    told = tuple(Word(word, 0.0, 1.0, 0.5, sure) for word, sure in words)
    return Transcript("a.wav", segments=(Segment(0, 1, "", (), 0.0, words=told),))


def marked(html):
    return re.findall(r'class="differs"[^>]*>([^<]*)<', html)


def test_words_that_differ_are_marked_and_unsure_ones_shaded():
    base = transcript((" the", 0.9), (" cat", 0.2), (" sat", 0.8))
    adapted = transcript((" the", 0.9), (" hat", 0.75), (" sat", 0.8), (" down", 1.0))
    left, right = demo.side_by_side(base, adapted)
    assert marked(left) == ["cat"]
    assert marked(right) == ["hat", "down"]
    assert re.findall(r"--sure: ([\d.]+)", left) == ["0.90", "0.20", "0.80"]


def test_what_a_model_says_is_no_markup():
    left, _ = demo.side_by_side(transcript((' <b>&"', 0.5)), transcript())
    assert "&lt;b&gt;&amp;&#34;" in left
    assert "<b>" not in left


def test_the_scale_is_turned_for_one_user_at_a_time(desk, wave):
    """Threads with scales of their own get what each gets alone; 0 is the base."""
    scales = (0.0, 1.0, 0.5)
    alone = {s: [t.text for t in desk.both(wave, "blora", "zh", s)] for s in scales}
    assert alone[0.0][0] == alone[0.0][1]
    assert alone[1.0][0] != alone[1.0][1]
    together = {}

    def ask(scale):
        together[scale] = [t.text for t in desk.both(wave, "blora", "zh", scale)]

    users = [threading.Thread(target=ask, args=(scale,)) for scale in scales]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert together == alone
    assert desk.experiments["blora"].adapted.adapter.scale == 1.0


def test_where_all_weights_were_trained_the_base_is_another_model(desk, wave):
    base, adapted = desk.both(wave, "None", "zh", 0.0)
    assert base.text != adapted.text
    assert base.text == desk.both(wave, "blora", "zh", 1.0)[0].text


def test_the_repair_is_turned_and_put_back(desk, wave):
    """0 is as trained bit for bit, the base is never repaired, and nobody else's model is."""
    as_trained = desk.both(wave, "blora", "zh", 1.0)
    assert desk.both(wave, "kept", "zh", 1.0, 0.0) == as_trained
    base, kept = desk.both(wave, "kept", "zh", 1.0, 1e9)
    assert base == as_trained[0]
    assert kept != as_trained[1]
    assert desk.both(wave, "kept", "zh", 1.0, 0.0) == as_trained
    assert desk.both(wave, "blora", "zh", 1.0, 1e9) == as_trained


def test_languages_begin_with_the_training_s(desk):
    choices = desk.experiments["blora"].languages
    assert [value for _, value in choices][:2] == ["zh", "auto"]
    assert len(choices) == 100


@pytest.mark.parametrize(
    "content", [b"this is a text\n" * 99, b"", b"RIFF\x00\x00\x00\x00WAVEfmt "]
)
def test_what_is_no_audio_is_named_without_its_place(desk, tmp_path, content):
    path = tmp_path / "notes.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.wav") as caught:
        desk.both(str(path), "blora", "zh", 1.0)
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_downloads_are_the_writers_of_transcribe(desk, wave):
    _, adapted = desk.both(wave, "blora", "zh", 1.0)
    first, again = desk.files(adapted), desk.files(adapted)
    assert [path.rpartition("/")[2] for path in first] == ["talk.json", "talk.srt"]
    assert not set(first) & set(again)
    with open(first[0], encoding="utf-8") as file:
        assert json.load(file) == adapted.as_dict()


def test_examples_are_those_of_sets(tmp_path, wave):
    (tmp_path / "wav.scp").write_text(f"a {wave}\nb {tmp_path}/gone.wav\n")
    assert demo.examples_of([tmp_path]) == [wave]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        demo.examples_of([tmp_path / "nowhere"])


# ---- served ----


@pytest.fixture(scope="module")
def served(desk, wave, tmp_path_factory):
    gradio = pytest.importorskip("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("sent")))
        blocks = demo.page(desk, [wave])
        address = demo.serve(blocks, demo.LOCAL, None, 1)
        yield address
        blocks.close()
    assert gradio.__version__


@pytest.fixture(scope="module")
def client(served):
    from gradio_client import Client

    return Client(served, verbose=False)


def test_two_users_at_once_each_get_their_own(served, client, desk, wave):
    from gradio_client import Client, handle_file

    other = Client(served, verbose=False)
    jobs = [
        user.submit(handle_file(wave), "blora", "zh", scale, api_name="/hear")
        for user, scale in ((client, 1.0), (other, 0.0), (client, 0.5))
    ]
    for job, scale in zip(jobs, (1.0, 0.0, 0.5), strict=True):
        left, right, json_file, _ = job.result(120)
        alone = desk.both(wave, "blora", "zh", scale)
        assert (left, right) == demo.side_by_side(*alone)
        with open(json_file, encoding="utf-8") as file:
            assert json.load(file)["text"] == alone[1].text


def test_it_listens_here_only(served):
    port = int(served.rstrip("/").rpartition(":")[2])
    listening = set()
    for table in ("tcp", "tcp6"):
        rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        places = (row.split()[1].split(":") for row in rows if row.split()[3] == "0A")
        listening |= {address for address, number in places if int(number, 16) == port}
    assert listening == {"0100007F"}  # 127.0.0.1


def fetch(served, path, data=None):
    request = urllib.request.Request(
        served + path, data and json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


@pytest.mark.parametrize(
    "place", ["/etc/passwd", "setup.py", "../../etc/passwd", "%2e%2e/setup.py"]
)
def test_files_of_this_machine_stay_here(served, place):
    status, body = fetch(served, f"gradio_api/file={place}")
    assert status in (403, 404) and "root:" not in body
    file = {"path": place, "meta": {"_type": "gradio.FileData"}}
    status, body = fetch(served, "gradio_api/call/hear", {"data": [file, "blora", "zh", 1.0]})
    event = json.loads(body)["event_id"]
    _, body = fetch(served, f"gradio_api/call/hear/{event}")
    assert "event: error" in body and "root:" not in body


def test_mistakes_are_one_line(client, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    text = tmp_path / "notes.wav"
    text.write_text("no audio\n" * 100)
    for given, said in ((handle_file(str(text)), "notes.wav"), (None, "upload")):
        with pytest.raises(AppError, match=said) as caught:
            client.predict(given, "blora", "zh", 1.0, api_name="/hear")
        assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_not_taken(served):
    head = 'Content-Disposition: form-data; name="files"; filename="long.wav"'
    body = f"--b\r\n{head}\r\n\r\n".encode() + bytes(2 * 10**6) + b"\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    request = urllib.request.Request(f"{served}gradio_api/upload", body, kind)
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(request, timeout=120)


def test_a_port_that_is_taken(desk):
    pytest.importorskip("gradio")
    with socket.socket() as other:
        other.bind((demo.LOCAL, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=str(port)):
            demo.serve(demo.page(desk), demo.LOCAL, port, 1)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_in_a_browser(served, wave, tmp_path):
    """Upload, turn, read, download; at the widths of a desk and of a telephone."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as play:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=options)
        for width in (1280, 390):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            hosts = set()
            tab.on("request", lambda request, hosts=hosts: hosts.add(request.url.split("/")[2]))
            tab.goto(served)
            tab.set_input_files("input[type=file]", wave)
            tab.get_by_role("button", name="Transcribe").click()
            tab.wait_for_selector("#adapted .heard", timeout=60000)
            assert tab.inner_text("#base") != tab.inner_text("#adapted")
            tab.locator("input[type=number]").fill("0")
            tab.get_by_role("button", name="Transcribe").click()
            tab.wait_for_function(
                "document.querySelector('#base').innerText =="
                " document.querySelector('#adapted').innerText"
            )
            assert tab.locator(".differs").count() == 0
            slider = tab.get_by_label("strength of the repair", exact=False).first
            assert not slider.is_visible()
            tab.get_by_label("experiment").click()
            tab.get_by_role("option", name="kept").click()
            slider.wait_for(state="visible")
            with tab.expect_download() as download:
                tab.locator("#srt").click()
            assert download.value.suggested_filename == "talk.srt"
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert {host for host in hosts if host} == {served.split("/")[2]}
        browser.close()
