"""The images of a project as a list: thumbnail, calibration, state, ratios as a small bar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from qtpy.QtCore import (
    QAbstractListModel,
    QItemSelectionModel,
    QModelIndex,
    QObject,
    QRect,
    QRectF,
    QSize,
    Qt,
)
from qtpy.QtGui import QColor, QFont, QFontMetrics, QKeyEvent, QPainter, QPixmap
from qtpy.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from ....core.acquisition_session import PIXEL_SIZE_ERROR, AcquisitionSession, Composition
from ....core.errors import without_file_name
from ....core.palette import colour_of
from ....core.tables.cluster_table import NON_CLASS_LABELS
from ....core.text import pluralise
from ....project import ProjectImage
from ....project.opening import thumbnail
from ....state.annotator_packs import reviewed_images
from ....state.window_state import WindowState
from ....statistics.ratios.ratio_notes import withholds_fractions
from ....statistics.ratios.track_counts import (
    count_clusters,
    describe_clusters,
    merge_tracks,
    stacks_without_tracks,
    without_excluded,
)
from ...controls.drawing import faint, readable
from ...controls.forms import leave_letters
from ...controls.refresher import follow
from ...tasks import start
from ...viewer.models import model_id_of

ROW = Qt.ItemDataRole.UserRole
ERROR = ROW + 1
ROW_LINES = 5.3
"""Height of a row in lines of text: four lines, and a bar of the classes."""
_THUMBNAIL_LINES = 4
_MARGIN_X, _MARGIN_Y = 4, 3
_WRAPPED = Qt.TextFlag.TextWordWrap.value
_FAILED = QColor("#d55e00")


@dataclass(frozen=True)
class Row:
    """Description of an image in the list."""

    name: str
    size: str = ""
    state: str = "new"
    words: str = "new"
    session: str = ""
    tooltip: str = ""
    shares: tuple[tuple[str, float], ...] = ()  # of the classes, as in Ratios
    strip: tuple[tuple[str, float], ...] = ()  # of all labels, those that are no class too
    thumbnail: QPixmap | None = field(default=None, compare=False)


def format_size(shape: Sequence[int] | None, pixel_size_nm: float | None) -> str:
    """Format the size of an image, as in ``0.036 nm/px, 2048 × 2048``."""
    if shape is None:
        return ""
    # The pixel size first: a narrow list cuts the end.
    size = "not calibrated" if pixel_size_nm is None else f"{pixel_size_nm:.3g} nm/px"
    return f"{size}, {' × '.join(map(str, shape))}"


def format_session(session: AcquisitionSession, known: Composition, sample: str = "") -> str:
    """Format the sample of an image, if it is not the folder, its known shares, and the session."""
    if sample:  # first: a long name of a session may be cut
        return f"sample {sample}, {format_session(session, known)}"
    earlier = session.earlier
    name = session.name + (f", same instrument as {earlier.source}" if earlier else "")
    if session.pixel_size_error != PIXEL_SIZE_ERROR:
        name += f", pixel size ± {100 * session.pixel_size_error:.3g} %"
    if not known:
        return f"session {name}"
    shares = ", ".join(f"{label} {100 * share:.3g} %" for label, share in known.items())
    # The sample first: a long name of a session may be cut.
    return f"known: {next(iter(known)) if len(known) == 1 else shares}, session {name}"


def shares_of(
    labels: Sequence[str],
    names: Sequence[str],
    left_out: Collection[str] = ("", *NON_CLASS_LABELS),  # labels that do not count
) -> tuple[tuple[str, float], ...]:
    """Share of each of some labels among the clusters that count: those with a class."""
    counts = Counter(labels)
    n = sum(k for label, k in counts.items() if label not in left_out)
    return tuple((c, counts[c] / n) for c in names if counts[c]) if n else ()


def row_of(state: WindowState, image: ProjectImage | None, name: str) -> Row:
    """Describe an image by its clusters and its file."""
    micrograph, analysis = state.micrograph(name), state.analysis(name)
    shape = image.shape if image is not None else None
    # Not of the micrograph if the file would have to be read for it.
    known_shape = shape or getattr(micrograph, "_shape", None)
    if known_shape is None and image is None:
        known_shape = micrograph.shape
    # While files are read, the project has pixel sizes that the window has not yet.
    pixel_size_nm = micrograph.pixel_size_nm or (None if image is None else image.pixel_size_nm)
    row = Row(name, format_size(known_shape, pixel_size_nm))
    path = "" if micrograph.path is None else str(micrograph.path)
    if image is not None and image.error:
        return replace(row, state="failed", words=reason_of(image), tooltip=path)
    atoms = state.atoms.of(name)
    # Nobody has looked for them; or a blind annotator has taken the only mark back.
    unsearched = atoms is not None and atoms.analysis is None
    if unsearched and not (atoms.marks and (len(atoms.table) or not state.blind)):
        atoms = None
    n_atoms = "" if atoms is None else pluralise(len(atoms.table), "atom")
    if atoms is None and name in reviewed_images(state):
        n_atoms = pluralise(0, "atom")
    if analysis is None:
        words = "new" if pixel_size_nm or known_shape is None else "needs a pixel size"
        return replace(row, words=n_atoms or words, tooltip=path)
    # As arrays: there may be hundreds of images.
    counted, more = without_excluded(analysis.table)
    n, reviewed = count_clusters(counted)
    n_frames = known_shape[0] if known_shape is not None and len(known_shape) == 3 else 1
    found = describe_clusters(counted, n_frames)
    of_frames = f" of {n}" if stacks_without_tracks(counted) else ""  # found is per frame
    state_of_labels = f"reviewed {reviewed}{of_frames}"
    if not (state.blind or analysis.model_id or reviewed):
        state_of_labels = "not classified"
    words = f"{found}, {state_of_labels}{more}" if n or more else "no cluster found"
    words += f", {n_atoms}" if n_atoms else ""
    words += ", pixel size changed: analyse again" if state.pixel_sizes.has_changed(name) else ""
    model = "" if state.blind else model_id_of(analysis)
    by = f"labels by {model}" if model else ""  # too long for the row
    merged = merge_tracks(counted)  # each track counts once, as in Ratios
    whole = ~merged["touches_border"].to_numpy(bool)
    labels, classes = merged["label"].to_numpy(object)[whole].tolist(), state.classes()
    shares = shares_of(labels, classes)
    strip = shares_of(labels, [*classes, *NON_CLASS_LABELS], left_out=("",))
    said = ", ".join(f"{c} {100 * share:.0f} %" for c, share in shares)
    by_model = (merged["label_corrected"] == "").to_numpy()[whole].any() and not state.blind
    if by_model and withholds_fractions(analysis.parameters.get("session", {})):
        numbers = Counter(labels)
        said = ", ".join(f"{c} {numbers[c]}" for c, _ in shares) + " (fractions withheld: Ratios)"
    of_all = "" if of_frames else f"reviewed {reviewed} of {n}"
    details = "\n".join(filter(None, (words, of_all, said, by, path)))
    return replace(row, state="analysed", words=words, shares=shares, strip=strip, tooltip=details)


def reason_of(image: ProjectImage) -> str:
    """Return why an image failed, without its name, which the row shows already."""
    return without_file_name(image.error, image.path)


class ImageModel(QAbstractListModel):
    """One row per image of the window; a row is described when it is displayed."""

    def __init__(
        self,
        state: WindowState,
        parent: QObject | None = None,
        refusals: Mapping[str, str] | None = None,  # why files could not be shown, by image
    ) -> None:
        super().__init__(parent)
        self.state = state
        self._refusals = {} if refusals is None else refusals
        self._names: list[str] = []
        self._rows: dict[str, Row] = {}
        self._index: dict[str, int] = {}
        self._files: dict[str, ProjectImage] = {}
        self._files_outdated = False
        self._generations: dict[str, int] = {}
        self._thumbnails: dict[str, QPixmap] = {}
        self._sessions: tuple[list[AcquisitionSession], dict[str, str], bool] = [], {}, False
        self._session_texts: dict[str, str] = {}

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else len(self._names)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid() or index.row() >= len(self._names):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._names[index.row()]
        if role == ERROR:
            image = self._files.get(self._names[index.row()])
            return reason_of(image) if image is not None else ""
        if role not in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole, ROW):
            return None
        row = self._row(self._names[index.row()])
        if role == Qt.ItemDataRole.ToolTipRole:
            return row.tooltip
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{row.name}, {row.words}, {row.session}"
        return row if role == ROW else None

    @property
    def has_errors(self) -> bool:
        """Whether an image failed, so that its row may be higher than others."""
        return any(image.error for image in self._files.values())

    def rebuild(self) -> None:
        """Rebuild the list, since the images may have changed."""
        self.beginResetModel()
        self._names = list(self.state.images)
        self._index = {name: i for i, name in enumerate(self._names)}
        # Those of images outside a project are drawn again: another image may have the name.
        self._thumbnails = {n: p for n, p in self._thumbnails.items() if n in self._files}
        self._read_files()
        self.endResetModel()

    def forget_files(self) -> None:
        """Read what is known of the files again at the next refresh."""
        self._files_outdated = True

    def refresh(self) -> None:
        """Update the rows of the same images: all if files have changed, or those analysed."""
        if self._files_outdated and self._names:
            self._read_files()
            self.dataChanged.emit(self.index(0), self.index(len(self._names) - 1))
        outdated = self._read_sessions()
        for i, name in enumerate(self._names):
            if name in outdated or self._generations[name] != self.state.generation(name):
                self._refresh_row(i, name)

    def refresh_image(self, name: str) -> None:
        """Describe an image again, since its atoms or its thumbnail have changed."""
        if name in self._index:
            self._refresh_row(self._index[name], name)

    def _read_files(self) -> None:
        project = self.state.project
        self._files = {} if project is None else {i.name: i for i in project.images(counts=False)}
        self._files_outdated = False
        self._generations = {name: self.state.generation(name) for name in self._names}
        self._read_sessions()
        self._rows.clear()

    def _read_sessions(self) -> set[str]:
        """Read the sessions of the images; return the images of which the text has changed."""
        known, blind = self.state.sessions, self.state.blind
        # A known sample, or the name of one, would tell a blind annotator the labels.
        samples = {} if blind else {i: known.named_sample(i) for i in known.entries}
        now = known.groups(), samples, blind
        if now == self._sessions:
            return set()
        self._sessions, before = now, self._session_texts
        self._session_texts = {
            i: format_session(s, {} if blind else s.known.get(i, {}), samples.get(i, ""))
            for s in now[0]
            for i in s.images
        }
        return {i for i, text in self._session_texts.items() if before.get(i) != text}

    def _refresh_row(self, i: int, name: str) -> None:
        self._generations[name] = self.state.generation(name)
        known = self._files.get(name)
        if known is not None and known.error and self._is_new(name, known):
            self._files[name] = replace(known, error="")
        self._rows.pop(name, None)
        self.dataChanged.emit(self.index(i), self.index(i))

    def _is_new(self, name: str, image: ProjectImage) -> bool:
        """Whether an image was analysed, or got another pixel size, since its file was read."""
        if name not in self.state.images:  # removed: the list is rebuilt in the next turn
            return False
        if self._is_read(name):
            return True
        return self.state.micrograph(name).pixel_size_nm != image.pixel_size_nm

    def _thumbnail(self, name: str) -> QPixmap | None:
        if name not in self._thumbnails:
            image = self._files.get(name)
            if image is not None and image.thumbnail:
                self._thumbnails[name] = _pixmap(image.thumbnail)
            elif self._can_be_drawn(name, image):
                self._thumbnails[name] = QPixmap()  # until it is drawn
                start(
                    self.state, thumbnail, self.state.micrograph(name), key=f"thumbnail {name}",
                    on_result=partial(self._take_thumbnail, name), about=name, owner=self,
                    quiet_errors=True,
                )  # fmt: skip
        return self._thumbnails.get(name)

    def _can_be_drawn(self, name: str, image: ProjectImage | None) -> bool:
        """Whether an image outside a project, or with a file that was repaired, can be drawn."""
        in_window = name in self.state.images
        return in_window and (image is None or self._is_read(name))

    def _is_read(self, name: str) -> bool:
        """Whether an image could be read: it has clusters or atoms that a model has found."""
        atoms = self.state.atoms.of(name)
        has_atoms = atoms is not None and atoms.analysis is not None
        return has_atoms or self.state.analysis(name) is not None

    def _take_thumbnail(self, name: str, png: bytes) -> None:
        self._thumbnails[name] = _pixmap(png)
        self.refresh_image(name)

    def _row(self, name: str) -> Row:
        if name not in self._rows:
            if name not in self.state.images:  # removed: the list is rebuilt in the next turn
                return Row(name)
            row = row_of(self.state, self._files.get(name), name)
            if self.state.project is not None and name in self.state.project.image_files.not_found:
                row = replace(row, words=f"file not found, {row.words}")
            elif (reason := self._refusals.get(name)) and row.state != "failed":
                path = self.state.micrograph(name).path
                reason = reason if path is None else without_file_name(reason, path)
                row = replace(row, words=f"cannot be shown: {reason} {row.words}")
            session = self._session_texts.get(name, "")
            # All lines in full: a narrow list cuts their ends.
            lines = filter(None, (row.name, row.size, session, row.words, row.tooltip))
            self._rows[name] = replace(
                row, session=session, tooltip="\n".join(lines), thumbnail=self._thumbnail(name)
            )
        return self._rows[name]

    def row_of(self, image: str | None) -> int:
        """Return the row of an image; -1 if it is not in the list."""
        return -1 if image is None else self._index.get(image, -1)

    def image_at(self, row: int) -> str | None:
        return self._names[row] if 0 <= row < len(self._names) else None

    @property
    def rows(self) -> list[Row]:
        return [self._row(name) for name in self._names]


def selected_images(view: QListView) -> list[str]:
    """Return the names of the selected images of a list, in order."""
    model = view.model()
    assert isinstance(model, ImageModel)
    rows = sorted(index.row() for index in view.selectionModel().selectedRows())
    names = (model.image_at(row) for row in rows)
    return [name for name in names if name is not None and name in model.state.images]


def _pixmap(png: bytes) -> QPixmap:
    picture = QPixmap()
    picture.loadFromData(png)
    return picture


class ImageDelegate(QStyledItemDelegate):
    """Paints a row: thumbnail at the left, four lines and a bar of the classes beside it."""

    def __init__(self, state: WindowState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._state = state

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802
        metrics = QFontMetrics(option.font)
        line, error = metrics.height(), index.data(ERROR)
        height = round(ROW_LINES * line)
        if error:
            view: Any = option.widget
            box = QRect(0, 0, view.viewport().width() - 2 * _MARGIN_X, 100 * line)
            text = metrics.boundingRect(box, _WRAPPED, error)
            height = max(height, line + text.height() + 3 * _MARGIN_Y)
        return QSize(16 * line, height)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        row = index.data(ROW)
        style, panel = option.widget.style(), QStyleOptionViewItem(option)
        # The row under the mouse would look as if it were selected too.
        panel.state &= ~QStyle.StateFlag.State_MouseOver
        style.drawPrimitive(
            QStyle.PrimitiveElement.PE_PanelItemViewItem, panel, painter, option.widget
        )
        painter.save()
        box = QRectF(option.rect).adjusted(_MARGIN_X, _MARGIN_Y, -_MARGIN_X, -_MARGIN_Y)
        if row.state == "failed":
            self._paint_failed(painter, option, box, row)
        else:
            self._paint_row(painter, option, box, row)
        painter.restore()

    def _paint_failed(
        self, painter: QPainter, option: QStyleOptionViewItem, box: QRectF, row: Row
    ) -> None:
        """Paint the name and the whole reason, without a picture."""
        ink, paper = text_colours(option)
        line = QFontMetrics(option.font).height()
        name = QRectF(box.left(), box.top(), box.width(), line)
        self._paint_line(painter, name, row.name, _bold(option.font), ink)
        painter.setFont(option.font)
        painter.setPen(readable(_FAILED, paper))
        painter.drawText(box.adjusted(0, line, 0, _MARGIN_Y), _WRAPPED, row.words)

    def _paint_line(
        self,
        painter: QPainter,
        place: QRectF,
        words: str,
        font: QFont,
        colour: QColor,
        # In the middle: names of images, and of their sessions, often differ at the end.
        elide: Qt.TextElideMode = Qt.TextElideMode.ElideMiddle,
    ) -> None:
        painter.setFont(font)
        painter.setPen(colour)
        elided = QFontMetrics(font).elidedText(words, elide, int(place.width()))
        painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter), elided)

    def _paint_row(
        self, painter: QPainter, option: QStyleOptionViewItem, box: QRectF, row: Row
    ) -> None:
        line = QFontMetrics(option.font).height()
        side = min(box.height(), _THUMBNAIL_LINES * line)
        picture = QRectF(box.left(), box.top(), side, side)
        if row.thumbnail is not None and not row.thumbnail.isNull():
            size = row.thumbnail.size().scaled(
                picture.size().toSize(), Qt.AspectRatioMode.KeepAspectRatio
            )
            place = QRectF(0, 0, size.width(), size.height())
            place.moveCenter(picture.center())
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawPixmap(place, row.thumbnail, QRectF(row.thumbnail.rect()))
        else:
            painter.fillRect(picture, QColor(128, 128, 128, 60))
        ink, paper = text_colours(option)
        text = box.adjusted(side + 8, 0, 0, 0)
        plain, middle = option.font, Qt.TextElideMode.ElideMiddle
        for i, (words, font, colour, elide) in enumerate(
            (
                (row.name, _bold(plain), ink, middle),
                (row.size, plain, faint(ink, paper), middle),
                (row.session, plain, faint(ink, paper), middle),
                (row.words, plain, ink, Qt.TextElideMode.ElideRight),  # counts of clusters first
            )
        ):
            place = QRectF(text.left(), text.top() + i * line, text.width(), line)
            self._paint_line(painter, place, words, font, colour, elide)
        classes = self._state.classes()  # may be others than when the row was described
        left, top = text.left(), text.top() + 4 * line + 0.15 * line
        for name, share in row.strip:
            width = share * text.width()
            part = QRectF(left, top, max(width - 1, 1), 0.5 * line)
            painter.fillRect(part, QColor(colour_of(name, classes)))
            left += width


def text_colours(option: QStyleOptionViewItem) -> tuple[QColor, QColor]:
    """Return the colours of the text of a row and of its background."""
    roles, selected = option.palette.ColorRole, option.state & QStyle.StateFlag.State_Selected
    ink, paper = (roles.HighlightedText, roles.Highlight) if selected else (roles.Text, roles.Base)
    return option.palette.color(ink), option.palette.color(paper)


def _bold(font: QFont) -> QFont:
    bold = QFont(font)
    bold.setBold(True)
    return bold


class ImageList(QListView):
    """The images with their thumbnails, several of which can be selected."""

    def __init__(self, model: ImageModel, state: WindowState) -> None:
        super().__init__()
        self.setModel(model)
        self.setItemDelegate(ImageDelegate(state, self))
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Images")
        self.setMinimumHeight(round(ROW_LINES * self.fontMetrics().height()))
        self.setSelectionMode(QListView.SelectionMode.ExtendedSelection)
        leave_letters(self)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        # At once: until the docks are refreshed, another image would seem to be the current one.
        follow(self, state.current_changed, self.select_current)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Open the image that an arrow key, Home or End selects, as a click does."""
        if event.key() in (Qt.Key.Key_PageDown, Qt.Key.Key_PageUp):
            event.ignore()  # the next image or the one before, as everywhere in the window
            return
        before = self.currentIndex()
        super().keyPressEvent(event)
        alone = not event.modifiers() & Qt.KeyboardModifier.ControlModifier
        if alone and self.currentIndex() != before:
            self.activated.emit(self.currentIndex())

    def select_current(self) -> None:
        """Select the row of the current image alone, unless it was chosen last."""
        model = self.model()
        assert isinstance(model, ImageModel)
        index = model.index(model.row_of(model.state.current))
        if index != self.currentIndex():  # other rows may be selected for their session
            self.select_row(index)

    def select_row(self, index: QModelIndex) -> None:
        """Select one row alone."""
        # By itself Qt would add the row to those selected while Ctrl is held, as in Ctrl+Z.
        one = QItemSelectionModel.SelectionFlag.ClearAndSelect
        self.selectionModel().setCurrentIndex(index, one)
        self.scrollTo(index)

    def select_shown(self) -> None:
        """Select the image on show, if the right mouse button has selected another one."""
        model = self.model()
        assert isinstance(model, ImageModel)
        index = model.index(model.row_of(model.state.current))
        if index.isValid() and not self.selectionModel().isSelected(index):
            # The next click is meant for what is under the pointer.
            bar = self.verticalScrollBar()
            place = bar.value()
            self.select_row(index)
            bar.setValue(place)
