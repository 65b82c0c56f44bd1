"""The quiz: what its items are, what the page gives away, and the page itself, answered in a browser by keyboard."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources, util
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from browser import Browser
from PIL import Image
from quiz_parts import BLOCK, ORIGIN, by_kind, small_quiz, write_video
from real_media import shared
from scipy.stats import norm

from detection.examine import examine
from detection.examine_basis import load_ensemble
from detection.examine_container import jpeg_quality
from detection.quiz import Item, Marks, Media, Quiz, choose_advised, page_data, read_strings, render, write_quiz
from detection.quiz_analysis import BLOCKS, FORGED, read_result
from detection.quiz_lesson import STILL_TOPICS, left_error
from detection.quiz_measures import calibration_curve, figures
from generation.provenance import verify
from generation.records import Faces, UserError
from scripts.door import Incomplete
from scripts.quiz import QuizConfig, pooled
from scripts.quiz_detector import advisor
from scripts.quiz_items import Forger, Plan, plan_clips, plan_stills
from scripts.quiz_lesson import try_stills
from scripts.quiz_media import heat
from scripts.quiz_videos import given_videos, make_given


@pytest.fixture(scope="module")
def made(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> tuple[Quiz, list[Plan]]:
    return small_quiz(faces, tmp_path_factory.mktemp("quiz"))


@pytest.fixture(scope="module")
def quiz(made: tuple[Quiz, list[Plan]]) -> Quiz:
    return made[0]


def test_items_are_of_all_kinds_and_half_are_forged_and_half_compressed(made: tuple[Quiz, list[Plan]]) -> None:
    quiz, plans = made
    kinds = {"real": 3, "compressed": 6, "swapped": 3, "reenacted": 6, "given_real": 3, "given_forged": 3}
    assert by_kind(quiz.items) == kinds
    assert sum(item.forged for item in quiz.items) == 12
    for plan in plans:
        who = plan.faces.identity[plan.rows]
        assert len(set(who)) == 1 and (plan.driver is None) != FORGED[plan.kind]
        if plan.driver is not None:
            assert (plan.faces.identity[plan.driver] == who[0]) == (plan.kind == "reenacted")
            assert not np.allclose(plan.expressions, plan.faces.expression[plan.rows])


@pytest.mark.parametrize("count", [0, 1, 4, 12])
def test_compression_tells_nothing(faces: Faces, count: int) -> None:
    plans = plan_stills(faces, 2 * count, seed=0)
    compressed = {truth: sum(p.compressed for p in plans if FORGED[p.kind] == truth) for truth in (True, False)}
    assert compressed == {True: 2 * count, False: 2 * count}
    assert [p.rows.tolist() for p in plans] == [p.rows.tolist() for p in plan_stills(faces, 2 * count, seed=0)]


def test_forged_media_are_marked_and_others_are_not(quiz: Quiz, tmp_path: Path) -> None:
    for item in quiz.items:
        path = tmp_path / f"item.{'mp4' if item.shown.moving else 'jpg'}"
        path.write_bytes(item.shown.content)
        verdict = verify(path)
        assert verdict.state == ("trusted" if item.forged else "absent")
        assert verdict.found == item.forged or item.shown.moving  # eight frames of 64 px may be too few to tell
        if not item.kind.startswith("given"):
            assert item.marks == Marks(verdict.state, verdict.signed_by, verdict.watermark_p, verdict.found)
        if item.after is not None and item.forged:
            (tmp_path / "after.jpg").write_bytes(item.after.content)
            assert verify(tmp_path / "after.jpg").state == "trusted"
    for example in quiz.lesson:
        path = tmp_path / f"example.{'mp4' if example.after.moving else 'jpg'}"
        path.write_bytes(example.after.content)
        assert verify(path).state == "trusted"


def test_all_stills_and_all_clips_come_from_one_encoder(quiz: Quiz) -> None:
    tables, streams = set(), set()
    for item in quiz.items:
        if not item.shown.moving:
            with Image.open(io.BytesIO(item.shown.content)) as image:
                tables.add((image.format, image.size, str(image.quantization)))  # type: ignore[attr-defined]
        elif not item.kind.startswith("given"):
            with av.open(io.BytesIO(item.shown.content)) as file:
                stream: Any = file.streams.video[0]
                streams.add(
                    (stream.codec_context.name, stream.pix_fmt, stream.frames, stream.average_rate, stream.profile)
                )
    assert len(tables) == 1 and len(streams) == 1


def test_neither_order_nor_length_nor_name_tells_what_an_item_is(quiz: Quiz) -> None:
    data = page_data(quiz)
    ids = [item["id"] for item in data["items"]]
    assert ids == sorted(ids) and len(set(ids)) == 24
    assert len({(len(item["data"]), item["type"]) for item in data["items"]}) == 2
    assert {key for item in data["items"] for key in item} == {"id", "type", "sound", "data"}
    assert len(data["advised"]) == BLOCK and data["advised"] == sorted(data["advised"])
    reversed_items = replace(quiz, items=quiz.items[::-1])
    assert [item["id"] for item in page_data(reversed_items)["items"]] == ids
    text = render(quiz)
    assert (
        '"swapped"'
        not in text.replace(json.dumps(quiz.strings, ensure_ascii=False), "")
        .split('id="data"')[1]
        .split("</script>")[0]
    )


def item(number: int, kind: str, detector: float | None) -> Item:
    marks = Marks("absent", None, 1.0, False)
    return Item(str(number), kind, False, Media(b"x", "image/jpeg"), marks, f"p{number}", "nobody", detector)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [((), 0), ((0, 1, 2), 3), ((0, 12, 24, 36), 4), (tuple(range(48)), 16), (tuple(range(12)), 4), ((5, 17), 2)],
)
def test_a_quarter_of_the_advice_is_wrong_where_the_detector_errs(wrong: tuple[int, ...], expected: int) -> None:
    kinds = ["real", "compressed", "swapped", "reenacted"]
    items = [item(i, kinds[i // 12], 0.9 if FORGED[kinds[i // 12]] != (i in wrong) else 0.1) for i in range(48)]
    chosen = choose_advised(items, 16, seed=0)
    assert by_kind([items[i] for i in chosen]) == dict.fromkeys(kinds, 4)
    assert len(set(chosen) & set(wrong)) == expected
    silent = [replace(one, detector=None) if i % 12 < 8 else one for i, one in enumerate(items)]
    assert all(silent[i].detector is not None for i in choose_advised(silent, 16, seed=0))


def test_an_ensemble_advises_with_its_verdicts_on_whole_files_or_says_nothing(tmp_path: Path) -> None:
    photo = Image.open(shared("data/london/001_neutral.jpg")).convert("RGB")
    path = tmp_path / "photo.jpg"
    photo.save(path, quality=92)
    nobody = io.BytesIO()
    Image.new("RGB", (256, 256), "grey").save(nobody, "JPEG")
    weights = Path(str(resources.files("detection") / "weights"))
    with advisor(weights, "warp_64", 1) as advise:
        _, (face,) = examine(path, load_ensemble(), advise, jpeg_quality(path))
        assert face.llr is not None
        expected = 1 / (1 + np.exp(-face.llr))
        assert advise.of(Media(path.read_bytes(), "image/jpeg")) == pytest.approx(expected, abs=1e-9)
        assert advise.of(Media(nobody.getvalue(), "image/jpeg")) is None
    assert "fine" in advise.name


def test_a_page_that_is_too_large_or_no_three_blocks_is_refused(quiz: Quiz, tmp_path: Path) -> None:
    large = replace(quiz.items[0], shown=replace(quiz.items[0].shown, content=bytes(1_500_000)))
    with pytest.raises(UserError, match=r"would have \d+\.\d MB, at most 15"):
        write_quiz(tmp_path, replace(quiz, items=(large, *quiz.items[1:])))
    with pytest.raises(UserError, match="three blocks"):
        write_quiz(tmp_path, replace(quiz, items=quiz.items[:-1]))
    with pytest.raises(UserError, match="two items are the same"):
        write_quiz(tmp_path, replace(quiz, items=(*quiz.items[:-1], quiz.items[0])))
    assert list(tmp_path.iterdir()) == []


def test_a_translation_must_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "strings.json"
    path.write_text(json.dumps(read_strings(), ensure_ascii=False))
    assert read_strings(path) == read_strings()
    for change, line in (
        (lambda words: words.pop("title"), "the key title is missing; in English it is"),
        (lambda words: words["told"].update(extra="x"), "there is no key told.extra"),
        (lambda words: words["told"].update(right="Richtig."), r"told.right must name \['answer'\]"),
    ):
        words = read_strings()
        change(words)
        path.write_text(json.dumps(words))
        with pytest.raises(UserError, match=line):
            read_strings(path)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_strings(path)


def test_the_lesson_shows_the_largest_error_of_all_that_were_tried(faces: Faces, quiz: Quiz) -> None:
    tried = [one for _, _, one in try_stills(faces, Forger("warp_64"), 1, lambda done, total: None, most=16)]
    examples = {example.topic: example for example in quiz.lesson}
    assert {"skin", "boundary", "good", "timing"} <= set(examples)
    assert quiz.facts["candidates"] == "16" and examples["good"].figures["error"] == quiz.facts["error"]
    first = next(topic for topic in STILL_TOPICS if topic in examples)
    shows, measure = STILL_TOPICS[first]
    worst = max(measure(one)[0] for one in tried if shows(one))
    assert next(measure(one)[1] for one in tried if shows(one) and measure(one)[0] == worst) == examples[first].figures
    unchanged = np.mean([(one.source == one.forgery).all(-1)[one.mask == 0].mean() for one in tried])
    assert unchanged == 1 and 0 < min(map(left_error, tried)) < 1


def test_the_heat_map_is_clear_where_nothing_changed() -> None:
    before = np.full((64, 64, 3), 90, np.uint8)
    after = before.copy()
    after[20:30, 20:30] += 80
    shown = np.asarray(Image.open(io.BytesIO(heat(before, after).content)).convert("RGBA"))
    assert shown[50:, 50:, 3].max() < 10 and shown[22:28, 22:28, 3].min() > 200


def test_videos_keep_their_sound_and_their_length(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3)).astype(np.uint8)
    for kind in ("real", "forged"):
        for number in range(4):
            write_video(tmp_path / kind / f"{number}.mp4", frames[number:], tone=440)
    chosen = given_videos(tmp_path, most=12)
    assert [one.path.name for one in chosen] == ["0.mp4", "1.mp4", "2.mp4"] * 2
    made = make_given(chosen[3], 1.0, ORIGIN, lambda path: 0.25)
    assert made.shown.sound and made.detector == 0.25 and made.marks.state == "absent" and made.forged
    with av.open(io.BytesIO(made.shown.content)) as file:
        assert len(list(file.decode(video=0))) == 25
    with av.open(io.BytesIO(made.shown.content)) as file:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
        assert abs(len(heard) / 48_000 - 1.0) < 0.06
        loudest = np.fft.rfftfreq(len(heard), 1 / 48_000)[np.abs(np.fft.rfft(heard)).argmax()]
        assert loudest == pytest.approx(440, abs=5)


def test_a_forged_video_is_compared_with_what_it_was_made_of(tmp_path: Path) -> None:
    frames = np.full((12, 64, 96, 3), 90, np.uint8)
    changed = frames.copy()
    changed[5, 20:40, 30:50] = 200  # one frame only
    for number in range(3):
        write_video(tmp_path / "real" / f"{number}.mp4", frames, tone=440)
        write_video(tmp_path / "forged" / f"{number}.mp4", changed, tone=440)
    write_video(tmp_path / "source" / "0.mp4", frames, tone=440)
    write_video(tmp_path / "source" / "1.mp4", frames[:, :32], tone=440)
    (tmp_path / "source" / "2.mp4").write_bytes(b"no video")
    with_source, wrong, damaged = given_videos(tmp_path, most=3)[3:]
    item = make_given(with_source, 1.0, ORIGIN, lambda path: None)
    assert item.before and item.after and item.change and item.source
    with av.open(io.BytesIO(item.source.content)) as file:
        assert [frame.to_ndarray(format="gray").max() < 120 for frame in file.decode(video=0)] == [True] * 12
    before, after = (np.asarray(Image.open(io.BytesIO(one.content))).astype(int) for one in (item.before, item.after))
    assert (after - before)[25:35, 35:45].mean() > 80 and abs((after - before)[:15, :25]).mean() < 10
    assert np.asarray(Image.open(io.BytesIO(item.change.content)).convert("RGBA"))[30, 40, 3] > 200
    with pytest.raises(UserError, match=r"1\.mp4: its frames have another size"):
        make_given(wrong, 1.0, ORIGIN, lambda path: None)
    with pytest.raises(UserError, match=r"source.2\.mp4: .*; take it out of the folder"):
        make_given(damaged, 1.0, ORIGIN, lambda path: None)
    (tmp_path / "source" / "2.mp4").unlink()
    without = given_videos(tmp_path, most=3)[5]
    alone = make_given(without, 1.0, ORIGIN, lambda path: None)
    assert without.source is None and alone.change is None and alone.source is None


def test_what_cannot_be_meant_is_refused_in_one_line(faces: Faces, tmp_path: Path) -> None:
    for values, line in (
        ({"items": 6}, "items=6: must be a multiple of 4"),
        ({"moving": 5}, "moving=5: must be 0 to 4"),
        ({"frames": 2}, "frames=2: must be at least 8"),
        ({"resamples": 0}, "resamples=0: must be at least 1"),
        ({"video_seconds": 0.0}, "video_seconds=0.0: must be more than 0"),
    ):
        with pytest.raises(UserError, match=line):
            QuizConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no such folder"):
        given_videos(tmp_path / "none", 3)
    write_video(tmp_path / "real" / "a.mp4", np.zeros((3, 64, 64, 3), np.uint8), 440)
    with pytest.raises(UserError, match="there are 1 in real/, 0 in forged/"):
        given_videos(tmp_path, 3)
    for path in (tmp_path / kind / f"{i}.mp4" for kind in ("real", "fake") for i in range(3)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no video")
    with pytest.raises(UserError, match=r"0\.mp4: .*; take it out of the folder"):
        make_given(given_videos(tmp_path, 3)[0], 1.0, ORIGIN, lambda path: None)
    with pytest.raises(UserError, match="hold no clips in motion"):
        plan_clips(faces, 3, 8, seed=0)
    with pytest.raises(UserError, match="show one person"):
        plan_stills(faces.select(faces.identity == faces.identity[0]), 3, seed=0)


# ---- in the browser


@pytest.fixture(scope="module")
def browser(quiz: Quiz, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("page")
    write_quiz(folder, quiz)
    with Browser(tmp_path_factory.mktemp("profile"), folder) as browser:
        browser.size(1280, 800)
        yield browser


def open_page(browser: Browser, seed: int = 5) -> None:
    browser.open("about:blank")
    browser.open(f"{(browser.downloads / 'quiz.html').as_uri()}#seed={seed}")


def test_the_page_computes_what_python_does(browser: Browser) -> None:
    open_page(browser)
    chances = np.concatenate([np.linspace(0.001, 0.999, 401), [1e-9, 1 - 1e-9]])
    assert browser.evaluate(f"{chances.tolist()}.map(probit)") == pytest.approx(norm.ppf(chances), abs=1e-9)
    rng = np.random.default_rng(2)
    for count in (2, 5, 16, 48):
        truth = rng.permutation(np.arange(count) % 2 == 0)
        answers = rng.integers(0, 21, count) / 20
        given = f"{json.dumps(truth.tolist())}, {answers.tolist()}"
        assert browser.evaluate(f"figures({given})") == pytest.approx(figures(truth, answers)._asdict(), abs=1e-9)
        curve = browser.evaluate(f"calibrationCurve({given})")
        assert len(curve) == len(calibration_curve(truth, answers))
        for one, other in zip(curve, calibration_curve(truth, answers), strict=True):
            assert one == pytest.approx(other)
    assert browser.evaluate("figures([true, true], [.1, .2])") is None


def test_the_page_deals_every_kind_alike(browser: Browser) -> None:
    strata = {f"item{i}": "abcd"[i % 4] for i in range(32)}
    deals = [browser.evaluate(f"dealt({json.dumps(strata)}, generator({seed}))") for seed in range(20)]
    for deal in deals:
        assert sorted(deal[0] + deal[1]) == sorted(strata)
        for block in deal:
            assert sorted(strata[name] for name in block) == sorted("abcd" * 4)
    assert len({json.dumps(deal) for deal in deals}) == 20
    assert deals[3] == browser.evaluate(f"dealt({json.dumps(strata)}, generator(3))")


def axe() -> str:
    """The accessibility engine, as a package brings it along."""
    found = util.find_spec("axe_core_python")
    if found is None:
        pytest.skip("axe.min.js is missing: pip install axe-core-python")
    return (resources.files("axe_core_python") / "axe.min.js").read_text("utf-8")


PAUSED_AT_THIRD = "over.pause(); over.currentTime = 0.08"
THIRD = "Math.max(Math.abs(over.currentTime - 0.08), Math.abs(under.currentTime - over.currentTime))"
"""Two videos that play together, stopped at their third frame, and how far they are from it."""

FIND = "[...document.querySelectorAll('main > section')].find((one) => !one.hidden).id"
VIOLATIONS = """axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations.map(
    (one) => `${one.id}: ${one.nodes.map((node) => node.target.join(' ')).join('; ')}`))"""


def test_a_person_with_a_keyboard_gets_through_and_nothing_is_inaccessible(browser: Browser, quiz: Quiz) -> None:
    engine = axe()
    browser.requests.clear()
    open_page(browser)
    named = {one.id: one for one in quiz.items}
    checked: set[str] = set()
    found: list[str] = []
    played: set[str] = set()

    def check(screen: str) -> None:
        if screen not in checked:
            checked.add(screen)
            browser.evaluate(f"if (!window.axe) {{ {engine} }}")
            found.extend(f"{screen}: {line}" for line in browser.evaluate(VIOLATIONS))

    check("welcome")
    assert browser.evaluate("$('begin').disabled")
    browser.press("Tab", " ", "Tab", "Enter")
    visited = []
    while (screen := browser.evaluate(FIND)) != "result":
        visited.append(screen)
        if screen == "question":
            block = browser.evaluate("session.block")
            check(f"question {block}")
            shown = browser.evaluate("session.order[session.block][session.place]")
            assert browser.evaluate("$('advice').hidden") == (block != "advice")
            assert browser.evaluate("document.querySelectorAll('#question .badge').length") == 0
            browser.press("Enter")  # nothing was answered yet
            assert browser.evaluate(FIND) == "question"
            browser.press(str(len(visited) % 10), "ArrowRight", "Enter")
        elif screen == "told":
            one = named[shown]
            assert browser.evaluate("$('told-title').textContent") == quiz.strings["told"]["kinds"][one.kind]
            assert (browser.evaluate("document.querySelectorAll('#compared .badge').length") == 1) == one.forged
            if one.shown.moving and one.kind not in played:
                played.add(one.kind)
                browser.wait("document.querySelector('#compared video').readyState >= 2")
                assert browser.evaluate("document.querySelectorAll('#compared video').length") == 1 + bool(one.source)
            if one.source is not None:
                browser.evaluate(f"var [under, over] = document.querySelectorAll('#compared video'); {PAUSED_AT_THIRD}")
                browser.wait(f"under.paused && over.paused && {THIRD} < 0.02")
                assert browser.evaluate("document.querySelector('#compared button').textContent") == "Play"
                browser.evaluate("document.querySelector('#compared button').click()")
                browser.wait("!under.paused && !over.paused")
                browser.evaluate(f"{PAUSED_AT_THIRD}; document.querySelector('#compared button').click(); over.pause()")
            check(f"told {'moving' if one.shown.moving else 'still'} {one.forged}")
            browser.press("Enter")
        else:
            check(screen)
            browser.evaluate(f"document.querySelector('#{screen} button').focus()")
            browser.press("Enter")
    check("result")
    assert found == [] and browser.console == []
    assert visited == [
        *(["question", "told"] * 8),
        "lesson",
        *(["question", "told"] * 8),
        "third",
        *(["question", "told"] * 8),
    ]
    assert [address for address in browser.requests if not address.startswith(("data:", "blob:"))][1:] == []
    assert {one.split()[0] for one in checked} == {"welcome", "question", "told", "lesson", "third", "result"}
    assert played == set(FORGED)


def test_the_answers_can_be_downloaded_and_pooled(browser: Browser, quiz: Quiz) -> None:
    assert browser.evaluate(FIND) == "result"
    browser.evaluate("$('download').focus()")
    browser.press("Enter")
    browser.wait("true")
    folder = browser.downloads / "results"
    folder.mkdir()
    for _ in range(200):
        downloads = list(browser.downloads.glob("quiz-*.json"))
        if downloads:
            break
        browser.evaluate("new Promise((done) => setTimeout(done, 25))")
    (path,) = downloads
    result, content = read_result(path), json.loads(path.read_bytes())
    assert [len(result.of(block)) for block in BLOCKS] == [BLOCK] * 3
    key = json.loads((browser.downloads / "items.json").read_bytes())
    for answer in result.answers:
        assert key[answer.item]["kind"] == answer.kind and key[answer.item]["detector"] == answer.detector
    for block in BLOCKS:
        own = result.of(block)
        measured = figures([one.forged for one in own], [one.answer for one in own])
        assert content["measures"]["you"][block] == pytest.approx(measured._asdict(), abs=1e-9)
        cell = f"$('figures').rows[{1 + 2 * BLOCKS.index(block)}].cells[1].textContent"
        assert browser.evaluate(cell) == f"{int(100 * measured.accuracy + 0.5)} %"
    path.rename(folder / path.name)
    assert pooled(QuizConfig(analyse=folder, resamples=50))["people"] == 1
    (folder / "bad.json").write_text("{}")
    found = pooled(QuizConfig(analyse=folder, resamples=50))
    assert isinstance(found, Incomplete) and "bad.json" in found["refused"][0]
