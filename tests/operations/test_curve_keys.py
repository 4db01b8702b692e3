"""The keys that `create-keys` makes are keys that both sides take."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from framework.config import CurveKeys, MainConfig
from framework.errors import ConfigError
from framework.inference.transport import ClientCurve
from framework.operations.curve_keys import create_keys, yaml_of
from framework.strict_yaml import parse, validate
from ml_actor.curve import check_curve_files


def test_both_sides_take_the_keys_and_others_cannot_read_them(tmp_path: Path) -> None:
    files = create_keys(tmp_path / "keys", ["trading", "second"])

    check_curve_files(CurveKeys(server_secret_file=files.server_secret_file, allowed_clients_dir=files.allowed_clients_dir))
    for secret in (files.server_secret_file, *files.client_secret_files):
        assert stat.S_IMODE(Path(secret).stat().st_mode) == 0o600
    assert len({ClientCurve.load(Path(name), Path(files.server_public_file)).public_key for name in files.client_secret_files}) == 2
    assert sorted(path.name for path in Path(files.allowed_clients_dir).iterdir()) == ["second.key", "trading.key"]


def test_the_yaml_that_it_prints_is_a_config(tmp_path: Path) -> None:
    files = create_keys(tmp_path, ["trading"])

    service = validate(parse(yaml_of(files), "main.yaml"), MainConfig).ml_service

    assert service.client.curve is not None
    assert service.server.curve is not None
    assert service.client.curve.client_secret_file == files.client_secret_files[0]


def test_a_later_client_is_added_and_the_service_keeps_its_key(tmp_path: Path) -> None:
    before = Path(create_keys(tmp_path, ["trading"]).server_secret_file).read_bytes()

    files = create_keys(tmp_path, ["laptop"])

    assert Path(files.server_secret_file).read_bytes() == before
    with pytest.raises(ConfigError, match="--client laptop: has keys"):
        create_keys(tmp_path, ["laptop"])


@pytest.mark.parametrize("name", ["../evil", "server", "", "a b", "x.key"])
def test_a_client_whose_name_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--client"):
        create_keys(tmp_path, [name])
