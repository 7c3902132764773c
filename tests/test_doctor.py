import json
import platform
import sys
from importlib import metadata

import torch

import mbml
from mbml import doctor


def test_versions_are_those_that_run():
    assert doctor.versions() == {
        "mbml": mbml.__version__,
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
    }


def test_hardware_names_the_processor_and_its_cores():
    name, cores = doctor.hardware("cpu").rsplit(", ", 1)
    assert name and int(cores.split()[0]) >= 1
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as file:
            assert name in file.read() or "model name" not in name


def test_a_gpu_is_named_by_its_driver(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    devices = doctor.report()["devices"]
    assert doctor.hardware("cuda:0", count=2) == "2 x GPU 0"
    assert devices["cuda:1"] == "GPU 1" and list(devices)[:3] == ["cpu", "cuda:0", "cuda:1"]


def test_a_report_is_plain_and_says_where_images_lie(tmp_path):
    report = doctor.report(tmp_path)
    json.dumps(report)
    assert report["images"] == str(tmp_path) and report["missing"]["packages"] == {}
    # nothing is prepared in an empty folder: what needs preparing is missing, with its remedy
    assert "mbml data prepare miniimagenet" in report["missing"]["datasets"]["miniimagenet"]
    assert "glyphs" not in report["missing"]["datasets"]
    text = doctor.text(report)
    assert "torch" in text and "miniimagenet: missing" in text


def test_a_missing_and_an_old_package_are_named_with_the_remedy(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "tqdm":
            raise metadata.PackageNotFoundError(name)
        return "2.0.1" if name == "torch" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    bad = doctor.report()["missing"]["packages"]
    assert set(bad) == {"tqdm", "torch"}
    assert bad["tqdm"].startswith("is not installed: pip install 'tqdm")
    assert bad["torch"].startswith("is 2.0.1: pip install 'torch")


def test_a_missing_compiler_is_said(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    report = doctor.report()
    assert report["compiler"] is None and "compiler" in doctor.text(report)
