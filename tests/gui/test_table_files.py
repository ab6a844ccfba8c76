"""Files that the window writes from tables and outlines."""

from napari_atomicity.gui.panels.table_files import write_outlines_of
from support import synthetic_analysis


def test_the_outlines_of_each_image_have_a_file_of_their_own(tmp_path):
    analyses = [synthetic_analysis(4, name) for name in ("x/a.tif", "y/a.tif", "x-a.tif")]
    kept = tmp_path / "clusters-y-a.zip"
    kept.write_bytes(b"edited")
    write_outlines_of(analyses, tmp_path / "clusters.zip")
    assert kept.read_bytes() == b"edited"
    assert len(list(tmp_path.iterdir())) == 1 + len(analyses)
