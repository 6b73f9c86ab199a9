"""Published lists of links: each is read in its own format, with the options that the example pipelines give."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdata.sources.media import MediaPlace, MediaReader
from mmdata.sources.media_table import MediaTable
from mmdata.sources.parquet_bytes import ParquetBytes
from mmdata.sources.url_table import UrlTable
from mmdata.sources.webdataset import WebDataset

from .tables import rows_of, write_tar

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_laion_parquet_has_links_captions_and_its_three_scores(tmp_path: Path) -> None:
    """Columns and types of laion2B-en: the capital names, float scores, and sizes as integers."""
    table = pa.table(
        {
            "SAMPLE_ID": pa.array([2371668021427, 3056563500], pa.int64()),
            "URL": ["https://x.example/1.jpg", "https://x.example/2.jpg"],
            "TEXT": ["color blocking", "white pants"],
            "HEIGHT": pa.array([700, 480], pa.int32()),
            "WIDTH": pa.array([525, 640], pa.int32()),
            "LICENSE": ["?", "?"],
            "NSFW": ["UNLIKELY", "UNSURE"],
            "similarity": pa.array([0.3207080960273743, 0.31], pa.float64()),
            "punsafe": pa.array([0.0001, 0.9], pa.float32()),
            "pwatermark": pa.array([0.2, 0.7], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "part-00000.snappy.parquet", compression="snappy")
    source = UrlTable(path=str(tmp_path), columns={"url": "URL", "caption": "TEXT"})
    first, second = rows_of(source)
    assert (first["url"], first["caption"]) == ("https://x.example/1.jpg", "color blocking")
    assert second["punsafe"] == pytest.approx(0.9)
    assert first["pwatermark"] == pytest.approx(0.2)
    (batch,) = source.batches(source.inputs()[0])
    assert [batch.schema.field(name).type for name in ("similarity", "punsafe")] == [pa.float64(), pa.float32()]


def test_cc3m_tsv_has_no_header_and_quotes_mean_nothing(tmp_path: Path) -> None:
    text = 'a very typical bus station\thttp://x.example/1.jpg\nthe "big one is here\thttp://x.example/2.jpg\n'
    (tmp_path / "Train_GCC-training.tsv").write_text(text)
    source = UrlTable(path=str(tmp_path / "Train_GCC-training.tsv"), header=["caption", "url"], quote="")
    assert [(row["caption"], row["url"][-5:]) for row in rows_of(source)] == [
        ("a very typical bus station", "1.jpg"),
        ('the "big one is here', "2.jpg"),
    ]


def test_webvid_csv_gives_videos_with_name_and_duration_as_written(tmp_path: Path) -> None:
    text = (
        "videoid,contentUrl,duration,page_dir,name\n"
        "21179416,https://ak.example/videos/21179416/preview/stock-footage-aerial-shot.mp4,PT00H00M11S,006001_006050,"
        "Aerial shot winter forest\n"
        "5629184,https://ak.example/videos/5629184/preview/stock-footage-senior.mp4,PT00H00M29S,071501_071550,"
        '"Senior couple, looking through a telescope"\n'
    )
    (tmp_path / "results_2M_val.csv").write_text(text)
    source = UrlTable(path=str(tmp_path), modality="video_text", columns={"caption": "name"})
    first, second = rows_of(source)
    assert first["url"].endswith("aerial-shot.mp4")
    assert second["caption"] == "Senior couple, looking through a telescope"
    assert (first["videoid"], first["duration"]) == ("21179416", "PT00H00M11S")


def test_the_tables_beside_real_clips_and_speech_name_them_all() -> None:
    if not (SHARED / "video").is_dir():
        pytest.skip("no shared/data beside the checkout")
    clips = rows_of(MediaTable(path=str(SHARED / "video/captions.tsv"), modality="video_text"))
    assert len(clips) == 8
    assert not [row for row in clips if "row_error" in row]
    speech = MediaTable(
        path=str(SHARED / "speech-en/transcripts.tsv"), modality="audio_text", root=str(SHARED / "speech-en/wav")
    )
    found = rows_of(speech)
    assert len(found) == 300
    assert not [row for row in found if "row_error" in row]
    assert {row["caption"] for row in found} >= {"zero", "nine"}
    assert len({row["speaker"] for row in found}) == 6


@pytest.mark.parametrize(
    ("modality", "part"), [("video_text", "mp4"), ("video_text", "webm"), ("audio_text", "flac"), ("audio_text", "wav")]
)
def test_tars_of_films_and_sounds_are_read_by_their_modality(modality: str, part: str, tmp_path: Path) -> None:
    members = [("0001.jpg", b"thumb"), (f"0001.{part}", b"media"), ("0001.txt", b"words"), ("0001.json", b'{"n": 1}')]
    write_tar(tmp_path / "00000.tar", members)
    (row,) = rows_of(WebDataset(path=str(tmp_path), modality=modality))  # type: ignore[arg-type]
    assert (row["caption"], row["n"]) == ("words", 1)
    with MediaReader() as reader:
        assert reader.read(MediaPlace(row["media_path"], row["media_offset"], row["media_size"])) == b"media"


def test_audio_as_hugging_face_stores_it_is_read_from_its_struct(tmp_path: Path) -> None:
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string()), ("sampling_rate", pa.int32())])
    values = [{"bytes": b"RIFF1", "path": "a.wav", "sampling_rate": 16000}, {"bytes": None, "path": "b.wav"}]
    pq.write_table(pa.table({"audio": pa.array(values, audio), "sentence": ["x", "y"]}), tmp_path / "a.parquet")
    first, second = rows_of(ParquetBytes(path=str(tmp_path), modality="audio_text"))
    assert first["caption"] == "x"
    with MediaReader() as reader:
        assert reader.read(MediaPlace(first["media_path"], row=first["media_row"])) == b"RIFF1"
    assert second["media_row"] == 1


def test_a_manifest_of_nemo_reads_as_a_table_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    line = b'{"audio_filepath": "a.wav", "duration": 1.5, "text": "hello"}\n'
    (tmp_path / "manifest.json.gz").write_bytes(gzip.compress(line))
    (row,) = rows_of(MediaTable(path=str(tmp_path / "manifest.json.gz"), modality="audio_text"))
    assert (row["caption"], row["media_size"], row["duration"]) == ("hello", 1, 1.5)
