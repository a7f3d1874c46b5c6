from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from raylight.auditing.commands import settings
from raylight.config.quoting import quoted


@given(st.text("ab\\${}'\"=,[é#;~! ", max_size=12))
def test_hydra_and_omegaconf_read_what_was_written(text):
    value = OverridesParser.create().parse_override(f"key={quoted(text)}").value()
    assert OmegaConf.create({"key": value}).key == text


def test_an_audit_takes_folders_of_any_name_and_no_strangers_conf(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "train.yaml").write_text("lr: 0.1\n")
    monkeypatch.chdir(tmp_path)
    for name in ("a=b", "a\\b", "${b}", "it's, {odd"):
        (tmp_path / name).mkdir()
        assert settings(name, []).data.root == str(tmp_path / name)
