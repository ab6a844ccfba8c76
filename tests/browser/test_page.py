"""The page of a pack as people use it, in real browsers: what comes out is what went in."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from pages import OPTIONS, SPOTS, find_program, make_pack, start, write_spots

from napari_atomicity.atoms.finding.localisation import snap_to_spot
from napari_atomicity.io.images import load
from napari_atomicity.io.pack_options import PackOptions
from napari_atomicity.project.packs.answer_server import AnswerServer
from napari_atomicity.project.packs.browser_answers import read_answers
from napari_atomicity.project.packs.browser_packs import (
    PackRequest,
    make_browser_packs,
    write_browser_packs,
)
from napari_atomicity.project.packs.returned import read_packs
from napari_atomicity.statistics.annotators.consensus import consensus

WAIT = 10_000


class Person:
    """A person before a page."""

    def __init__(self, context, url: str, name: str = "Ada") -> None:
        self.page, self.errors = context.new_page(), []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._see(request.url))
        self.page.goto(url)
        self.page.wait_for_selector("main:not([hidden])", timeout=WAIT)
        if self.page.locator("#start").is_visible():
            self.page.fill("#name", name)
            self.page.click("#begin button")
        self.page.wait_for_selector("#work:not([hidden])", timeout=WAIT)
        self.wait_for_image()

    def _see(self, url: str) -> None:
        if not url.startswith(("file:", "blob:", "http://127.0.0.1")):
            self.errors.append(url)

    def wait(self, condition: str, argument: object = None) -> None:
        """Wait until an expression is true; the page's policy forbids to evaluate text."""
        end = time.monotonic() + WAIT / 1000
        while not self.page.evaluate(condition, argument):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def wait_for_image(self) -> None:
        self.wait("page.view.picture !== null")

    def at(self, y: float, x: float) -> tuple[float, float]:
        """Where a position of the image is on the screen."""
        place = self.page.evaluate(
            "([y, x]) => { const box = page.view.canvas.getBoundingClientRect(), at = "
            "page.view.toScreen({y, x}); return [at.x + box.left, at.y + box.top]; }",
            [y, x],
        )
        return place[0], place[1]

    def click(self, y: float, x: float, **kwargs) -> None:
        n = self.n_marks
        self.page.mouse.click(*self.at(y, x), **kwargs)
        self.wait_for_marks(n + 1)

    @property
    def n_marks(self) -> int:
        return self.page.evaluate("page.answers.marks(page.place.key).size")

    def wait_for_marks(self, n: int) -> None:
        self.wait("n => page.answers.marks(page.place.key).size === n", n)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(60)

    def item(self) -> int:
        return self.page.evaluate("page.place.item")

    def complete(self) -> None:
        before = self.page.evaluate("page.number")
        self.press("c")
        self.wait("n => page.number !== n", before)

    def save(self, folder: Path, name: str = "answers.json") -> Path:
        self.page.locator(".save:visible").first.click()
        return self.saved(folder, name)

    def saved(self, folder: Path, name: str) -> Path:
        """Take the file that the browser has downloaded, under whatever name."""
        downloads, end = self.page.context.browser.downloads, time.monotonic() + WAIT / 1000
        while time.monotonic() < end:
            # A browser renames a file once it is whole: until then it is not ours to take.
            for path in (each for each in downloads.iterdir() if each.suffix != ".crdownload"):
                text = path.read_text("utf-8", "replace")
                if text.endswith("}\n") and '"kind": "answers"' in text:
                    path.unlink()
                    (folder / name).write_text(text, "utf-8")
                    return folder / name
            self.page.wait_for_timeout(30)
        raise AssertionError("nothing was downloaded")

    def close(self) -> None:
        assert self.errors == []
        self.page.close()


def test_marks_are_snapped_moved_deleted_undone_and_saved(context, pack, tmp_path):
    made, url = pack
    ada = Person(context, url.as_uri())
    item = ada.item()
    for y, x in SPOTS:
        ada.click(y + 1, x - 1)
    ada.press("u")
    ada.page.mouse.click(*ada.at(*SPOTS[0]))  # choose it
    ada.press("Delete")
    ada.wait_for_marks(3)
    ada.press("Control+z")
    ada.wait_for_marks(4)
    ada.press("Control+z", "Control+y")
    start_at, end = ada.at(*SPOTS[2]), ada.at(50.5, 20.25)
    ada.page.mouse.move(*start_at)
    ada.page.mouse.down()
    ada.page.mouse.move(start_at[0] - 20, start_at[1] - 20)
    ada.page.mouse.move(*end)
    ada.page.mouse.up()
    ada.page.wait_for_timeout(100)
    ada.complete()
    found = read_answers(ada.save(tmp_path), {made.manifest.sha256})
    name = made.manifest.images[item].name
    assert found.looked["image"].tolist() == [name]
    marks = found.marks[["y_px", "x_px"]].to_numpy()
    assert len(marks) == 4 and found.marks["uncertain"].tolist().count(True) == 1
    pixels = load(tmp_path / "raw" / name).frame()[:, :]
    for spot in (SPOTS[0], SPOTS[1], SPOTS[3]):
        nearest = marks[np.argmin(np.linalg.norm(marks - spot, axis=1))]
        in_napari = snap_to_spot(np.asarray(pixels, float), spot[0] + 1, spot[1] - 1, 0.05)
        np.testing.assert_allclose(nearest, in_napari, atol=0.15)
        np.testing.assert_allclose(nearest, spot, atol=0.15)
    assert not (np.linalg.norm(marks - SPOTS[2], axis=1) < 2).any()
    text = (tmp_path / "answers.json").read_text()
    in_page = json.loads(text)["items"]
    placed = next(one for one in in_page if one["item"] == item)["marks"]
    assert [[m["y_px"], m["x_px"]] for m in placed] == marks.tolist()
    ada.close()


def test_nothing_is_lost_by_reloading_half_way(context, pack, tmp_path):
    _, url = pack
    ada = Person(context, url.as_uri())
    ada.click(*SPOTS[0])
    ada.complete()
    ada.click(*SPOTS[1])
    item = ada.item()
    ada.page.reload()
    ada.page.wait_for_selector("#work:not([hidden])", timeout=WAIT)
    ada.wait_for_image()
    assert ada.item() == item and ada.n_marks == 1
    ada.press("Control+z")
    ada.wait_for_marks(0)
    ada.press("Control+y")
    ada.wait_for_marks(1)
    ada.complete()
    assert len(read_answers(ada.save(tmp_path)).looked) == 2
    ada.close()


def test_two_tabs_write_into_one_log(context, pack, tmp_path):
    _, url = pack
    one = Person(context, url.as_uri())
    other = Person(context, f"{url.as_uri()}#1")
    one.page.bring_to_front()
    one.click(*SPOTS[0])
    other.page.bring_to_front()
    other.wait_for_marks(1)
    other.click(*SPOTS[1])
    one.page.bring_to_front()
    one.wait_for_marks(2)
    one.click(*SPOTS[2])
    other.page.bring_to_front()
    other.wait_for_marks(3)  # undo takes back the last mark that the tab knows
    other.press("Control+z")
    one.page.bring_to_front()
    one.wait_for_marks(2)
    one.complete()
    for person, name in ((one, "1.json"), (other, "2.json")):
        person.page.bring_to_front()
        marks = read_answers(person.save(tmp_path, name)).marks
        assert len(marks) == 2 and marks["y_px"].between(25, 35).all()
        person.close()


def test_everything_by_keyboard(context, pack, tmp_path):
    made, url = pack
    page = context.new_page()
    page.goto(url.as_uri())
    page.wait_for_selector("#start:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "name"
    page.keyboard.type("Bo")
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden])")
    bo = Person.__new__(Person)
    bo.page, bo.errors = page, []
    bo.wait_for_image()
    bo.wait("document.activeElement.id === 'image'")
    bo.press("+", "+", "ArrowUp", "ArrowLeft", "Alt+Enter")
    bo.wait_for_marks(1)
    before = page.evaluate("page.answers.values.get(page.view.selected)")
    bo.press("Shift+ArrowRight", "Shift+ArrowDown", "u")
    moved = page.evaluate("page.answers.values.get(page.view.selected)")
    assert (moved["x"] - before["x"], moved["y"] - before["y"]) == pytest.approx((1, 1))
    assert moved["uncertain"] is True and "not sure" in page.inner_text("#status")
    bo.press("ArrowRight", "ArrowRight", "Alt+Space")
    bo.wait_for_marks(2)
    bo.press("k", "Delete")
    bo.wait_for_marks(1)
    bo.press("?")
    assert page.locator("#help").is_visible() and "choose the next mark" in page.inner_text("#help")
    bo.press("Escape")
    for _ in range(3):
        bo.complete()
    assert page.locator("#finish").is_visible()
    assert "3 of 3 images" in page.inner_text("#summary")
    # Every control can be reached and shows that it has the focus.
    bo.press("Shift+Tab")
    bo.press("Enter")
    found = read_answers(bo.saved(tmp_path, "bo.json"), {made.manifest.sha256})
    assert len(found.looked) == 3 and len(found.marks) == 1


def test_fingers_mark_move_and_zoom(browser, pack, tmp_path):
    if browser.program != "chromium":
        pytest.skip("fingers are simulated in Chromium only")
    _, url = pack
    context = browser.new_context(
        has_touch=True, viewport={"width": 420, "height": 800}, accept_downloads=True
    )
    ada = Person(context, url.as_uri())
    ada.page.touchscreen.tap(*ada.at(*SPOTS[0]))
    ada.wait_for_marks(1)
    ada.page.touchscreen.tap(*ada.at(*SPOTS[2]))
    ada.wait_for_marks(2)
    ada.page.locator('[data-do="unsure"]').tap()
    ada.wait("page.answers.values.get(page.view.selected).uncertain")
    touch = context.new_cdp_session(ada.page)

    def fingers(kind, *places):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        ada.page.wait_for_timeout(30)

    scale = ada.page.evaluate("page.view.scale")
    x, y = ada.at(60, 80)
    fingers("touchStart", (x - 20, y), (x + 20, y))
    fingers("touchMove", (x - 40, y), (x + 40, y))
    fingers("touchMove", (x - 80, y), (x + 80, y))
    fingers("touchEnd")
    assert ada.page.evaluate("page.view.scale") > 2.5 * scale and ada.n_marks == 2
    centre = ada.page.evaluate("page.view.centre.x")
    x, y = ada.at(60, 80)
    fingers("touchStart", (x, y))
    fingers("touchMove", (x - 30, y))
    fingers("touchMove", (x - 60, y))
    fingers("touchEnd")
    assert ada.page.evaluate("page.view.centre.x") > centre and ada.n_marks == 2
    ada.complete()
    assert len(read_answers(ada.save(tmp_path)).marks) == 2
    ada.close()
    context.close()


def test_contrast_and_zoom_with_the_mouse(context, pack):
    _, url = pack
    ada = Person(context, url.as_uri())
    x, y = ada.at(60, 80)
    ada.page.mouse.move(x, y)
    scale = ada.page.evaluate("page.view.scale")
    ada.page.mouse.wheel(0, -300)
    ada.wait("s => page.view.scale > 1.2 * s", scale)
    there = ada.at(60, 80)
    assert there == pytest.approx((x, y), abs=1.5)
    ada.page.mouse.down(button="right")
    ada.page.mouse.move(x - 60, y)
    ada.page.mouse.up(button="right")
    assert ada.page.evaluate("[page.view.low, page.view.high]") != [0, 255]
    ada.page.focus("#white")
    ada.page.keyboard.press("Home")
    assert ada.page.evaluate("page.view.high") < 50
    ada.page.focus("#image")
    ada.press("s", "f")
    assert ada.page.evaluate("[page.view.low, page.view.high]") == [0, 255]
    assert ada.page.evaluate("page.view.scale") == pytest.approx(scale)
    ada.close()


def test_examples_tell_what_was_right(context, tmp_path):
    made, url = make_pack(tmp_path, 1, examples=True)
    ada = Person(context, url.as_uri())
    points = made.manifest.examples[0].points
    for y, x in points[:5]:
        ada.click(y, x)
    ada.page.click("#check")
    ada.wait("document.getElementById('status').textContent.includes('Found')")
    text = ada.page.inner_text("#status")
    assert re.match(rf"Found [45] of {len(points)} atoms", text)
    n = ada.n_marks
    ada.page.mouse.click(*ada.at(*points[6]))
    ada.page.wait_for_timeout(150)
    assert ada.n_marks == n, "a checked example stays as it is"
    ada.press("n")
    ada.wait_for_image()
    ada.press("n")
    ada.wait_for_image()
    ada.click(*SPOTS[0])
    ada.complete()
    found = read_answers(ada.save(tmp_path))
    assert found.skills["given"].tolist() == [n] and found.skills["right"].iloc[0] >= 4
    ada.close()


def test_clusters_are_labelled_with_one_key_each(context, tmp_path):

    path = write_spots(tmp_path / "a.tif")
    rows = [("a.tif", i + 1, y, x, 0.5) for i, (y, x) in enumerate(SPOTS)]
    table = pd.DataFrame(rows, columns=["image", "cluster_id", "y_px", "x_px", "diameter_nm"])
    bad = "<img src=x onerror=alert(1)>"
    request = PackRequest(
        PackOptions(examples=False, repeats=0.5), clusters=table, classes=("Pt19", "Pt55", bad)
    )
    (made,) = make_browser_packs([path], request)
    (url,) = write_browser_packs([made], tmp_path / "page.html")
    ada = Person(context, url.as_uri())
    assert ada.page.locator("#classes button").all_inner_texts() == [
        "1Pt19", "2Pt55", f"3{bad}", "xnot a cluster"
    ]  # fmt: skip
    assert ada.page.locator("img").count() == 0
    given = {}
    for key in ("1", "2", "3", "x", "1", "2"):
        given[ada.item()] = {"1": "Pt19", "2": "Pt55", "3": bad, "x": "not a cluster"}[key]
        before = ada.page.evaluate("page.number")
        ada.press(key)
        ada.wait("n => page.number === n + 1", before)
    ada.page.click("#back")
    ada.page.wait_for_selector("#work:not([hidden])")
    found = read_answers(ada.save(tmp_path))
    items = made.manifest.items
    once = {k + 1: given[k] for k in range(4)}
    assert dict(zip(found.labels["cluster_id"], found.labels["label"], strict=True)) == once
    assert len(found.again_labels) == 2 and len(items) == 6
    ada.close()


def test_two_hundred_images_and_a_merge_of_three_people(context, browser, tmp_path):
    n = 200 if browser.program == "chromium" else 20
    made, url = make_pack(tmp_path, n)
    orders, files = [], []
    for who in ("Ada", "Bo", "Cy"):
        ada = Person(context, url.as_uri(), who)
        orders.append(ada.page.evaluate("page.answers.order"))
        # As the page does it for each click, without waiting for pictures.
        ada.page.evaluate(
            """async (spots) => {
                for (const item of page.answers.order) {
                    await page.answers.write([...spots.map(([y, x], k) =>
                        page.answers.entry(`mark/${item}/${k}`, {y, x: x + item / 1000,
                        uncertain: k === 0, seconds: 1}, "do")),
                        page.answers.entry(`complete/${item}`, true, "do")]);
                }
            }""",
            SPOTS,
        )
        began = time.perf_counter()
        ada.page.reload()
        ada.page.wait_for_selector("main:not([hidden])", timeout=WAIT)
        assert time.perf_counter() - began < 8
        ada.page.evaluate("page.go(page.places.length)")
        assert f"{n} of {n} images" in ada.page.inner_text("#summary")
        files.append(ada.save(tmp_path, f"{who}.json"))
        ada.page.once("dialog", lambda dialog: dialog.accept())
        ada.page.click("#other")
        ada.page.wait_for_selector("#start:not([hidden])")
        assert ada.page.input_value("#name") == ""
        ada.close()
    assert len({tuple(order) for order in orders}) == 3, "each person has an order of their own"
    assert all(sorted(order) == list(range(n)) for order in orders)
    found = read_packs([*files, url])
    expected = sorted(
        (image.name, y, x + i / 1000)
        for i, image in enumerate(made.manifest.images)
        for y, x in SPOTS
    )
    for who in ("Ada", "Bo", "Cy"):
        own = found.marks[found.marks["annotator"] == who]
        rows = own[["image", "y_px", "x_px"]].itertuples(index=False, name=None)
        assert sorted(rows) == expected
    merged = consensus(found.marks, found.looked, found.tolerance_nm)
    assert len(merged.believed) == n * len(SPOTS)


def test_answers_are_sent_to_the_address(context, tmp_path):
    made, _ = make_pack(tmp_path, 2)
    out = tmp_path / "answers"
    out.mkdir()
    with AnswerServer([made], out) as server:
        full = make_browser_packs([tmp_path / "raw"], PackRequest())  # pixels, for the page
        server.pages = [full[0].to_html(send=True).encode()]
        server.known = {full[0].manifest.sha256}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ada = Person(context, server.link)
        ada.page.evaluate("page.go(page.places.length - 1)")
        ada.page.wait_for_timeout(300)
        ada.click(*SPOTS[0])
        ada.complete()
        ada.page.click("#send")
        ada.wait("document.getElementById('sent').textContent !== ''")
        assert ada.page.inner_text("#sent") == "Your answers have arrived."
        ada.close()
        server.shutdown()
    assert len(read_packs([out]).marks) == 1


def test_nothing_is_lost_when_the_browser_is_killed(playwright, tmp_path):
    start(playwright, "chromium").close()  # skips without a browser
    _, url = make_pack(tmp_path, 2)
    profile = tmp_path / "profile"
    options = {"executable_path": find_program("chromium"), **OPTIONS["chromium"]}
    context = playwright.chromium.launch_persistent_context(profile, **options)
    ada = Person(context, url.as_uri())
    for place in SPOTS:
        ada.click(*place)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(profile) in part for part in process.info["cmdline"] or []):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    for file in profile.glob("Singleton*"):
        file.unlink()
    context = playwright.chromium.launch_persistent_context(profile, **options)
    again = Person(context, url.as_uri())
    assert again.n_marks == len(SPOTS)
    again.close()
    context.close()


def test_without_storage_the_page_says_so(context, pack, tmp_path):
    _, url = pack
    context.add_init_script("Object.defineProperty(window, 'indexedDB', {get() {throw 1}});")
    ada = Person(context, url.as_uri())
    assert "does not let the page keep your answers" in ada.page.inner_text("#warning")
    ada.click(*SPOTS[0])
    ada.complete()
    assert len(read_answers(ada.save(tmp_path)).marks) == 1


# ---- colours
def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrasts_are_those_of_wcag_aa(scheme):
    from napari_atomicity.project.packs.browser_packs import _asset

    light, dark = _asset("style.css").split("@media (prefers-color-scheme: dark)")
    named = dict(re.findall(r"--([\w-]+): (#\w{6})", light if scheme == "light" else dark))

    def ratio(a: str, b: str) -> float:
        high, low = sorted((_luminance(named[a]), _luminance(named[b])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for text, ground in (
        ("text", "page"), ("quiet", "page"), ("text", "panel"), ("quiet", "panel"),
        ("on-main", "main"), ("warning", "page"),
    ):  # fmt: skip
        assert ratio(text, ground) >= 4.5, (scheme, text, ground)
    for line in ("line", "focus", "main"):
        assert ratio(line, "page") >= 3, (scheme, line)


def test_a_key_or_click_answers_for_what_was_on_show_only(context, pack):
    """A second click, and a key that is held, would answer for images that nobody has seen."""
    _, path = pack
    ada = Person(context, path.as_uri())
    complete = ada.page.locator("#complete")
    complete.click()
    ada.wait("page.number === 1 && page.shown !== null")
    # The second one of a double click; clicks that are simulated in Firefox have no number.
    complete.dispatch_event("click", {"detail": 2})
    for _ in range(3):
        ada.page.keyboard.down("c")  # without the key coming up: held
    ada.wait("page.number === 2 && page.shown !== null")
    ada.page.keyboard.up("c")
    ada.page.wait_for_timeout(100)
    assert ada.page.evaluate("page.answers.nComplete") == 2
    # What was asked for before another image came is not done to that one.
    ada.page.evaluate(
        "() => { page.shownPicture = ''; page.run(() => page.go(0)); "
        "page.run(() => page.complete()); }"
    )
    ada.wait("page.number === 0")
    ada.wait("page.shown !== null")
    ada.page.wait_for_timeout(100)
    assert ada.page.evaluate("page.answers.nComplete") == 2
    ada.close()


def test_a_full_disk_is_said_and_nothing_is_lost(context, pack, tmp_path):
    made, path = pack
    ada = Person(context, path.as_uri())
    ada.click(*SPOTS[0])
    ada.page.evaluate(
        "() => { IDBObjectStore.prototype.add = () => { "
        "throw new DOMException('full', 'QuotaExceededError'); }; }"
    )
    ada.click(*SPOTS[1])
    assert "save them" in ada.page.locator("#warning").inner_text()
    ada.press("Control+z", "Control+y")
    ada.complete()
    saved = read_answers(ada.save(tmp_path), {made.manifest.sha256})
    assert len(saved.marks) == 2 and len(saved.looked) == 1
    ada.close()


def test_marks_stay_in_the_image_and_apart(context, pack, tmp_path):
    made, path = pack
    ada = Person(context, path.as_uri())
    ada.click(*SPOTS[0])
    ada.click(*SPOTS[1])
    ada.page.mouse.click(*ada.at(8, 30), button="middle")  # marks nothing
    ada.page.mouse.move(*ada.at(*SPOTS[0]))
    ada.page.mouse.down()
    ada.page.mouse.move(*ada.at(*SPOTS[1]), steps=4)
    ada.page.mouse.up()
    ada.page.wait_for_timeout(100)
    assert ada.n_marks == 2 and "there already" in ada.page.locator("#status").inner_text()
    for _ in range(80):
        ada.page.keyboard.press("Shift+ArrowLeft")
    ada.page.locator("#black").focus()
    ada.complete()  # keys act as well after a slider was used
    saved = read_answers(ada.save(tmp_path), {made.manifest.sha256})
    assert len(saved.marks) == 2 and saved.marks["x_px"].min() == -0.5
    ada.close()


def test_not_sure_is_about_the_label_that_was_just_given(context, tmp_path):
    image = write_spots(tmp_path / "a.tif")
    rows = [("a.tif", i + 1, y, x, 0.5) for i, (y, x) in enumerate(SPOTS)]
    table = pd.DataFrame(rows, columns=["image", "cluster_id", "y_px", "x_px", "diameter_nm"])
    request = PackRequest(
        PackOptions(examples=False, repeats=0), clusters=table, classes=("A", "B")
    )
    (url,) = write_browser_packs(make_browser_packs([image], request), tmp_path / "page.html")
    ada = Person(context, url.as_uri())
    first = ada.item()
    ada.press("1")
    ada.wait("page.number === 1")
    ada.press("u")
    assert ada.page.evaluate("i => page.answers.label(i).uncertain", first)
    assert "not sure" in ada.page.locator("#status").inner_text()
    ada.press("p", "u")  # of the cluster on show: sure again
    assert not ada.page.evaluate("i => page.answers.label(i).uncertain", first)
    ada.close()


def test_another_person_in_another_tab(context, pack):
    _, path = pack
    ada, same = Person(context, path.as_uri()), Person(context, path.as_uri())
    ada.page.once("dialog", lambda dialog: dialog.accept())
    ada.page.evaluate("() => page.run(() => page.go(page.places.length))")
    ada.page.locator("#other").click()
    same.page.wait_for_selector("#start:not([hidden])", timeout=WAIT)
    assert same.page.input_value("#name") == ""
    ada.close()
    same.close()
