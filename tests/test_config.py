"""Settings: where they come from, which source wins, and what a bad one says."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from meshkube.cli import server
from meshkube.config import Config, ConfigError, load


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text("ingress-http: 81\ningress-https: 444\nnode-name: from-file\n")
    environ = {"MESHKUBE_INGRESS_HTTPS": "445", "MESHKUBE_NODE_NAME": "from-env"}
    config = load({"node_name": "from-flag", "listen": None}, environ, file)
    assert (config.ingress_http, config.ingress_https) == (81, 445)
    assert config.node_name == "from-flag"
    assert config.listen_address == ("0.0.0.0", 6443)


def test_a_list_may_be_written_with_commas_or_as_yaml(tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text("disable: [dns, ingress]\n")
    assert load({}, {}, file).disable == ("dns", "ingress")
    assert load({"disable": "dns, node"}, {}).disable == ("dns", "node")


BAD = [
    ({"listen": "6443"}, {}, "--listen: '6443' is not ADDRESS:PORT"),
    ({"ingress_http": "eighty"}, {}, "--ingress-http: 'eighty' is not a whole number"),
    ({"ingress_http": "0"}, {}, "--ingress-http: 0 is not a port (1-65535)"),
    ({"node_name": "Web_1"}, {}, "--node-name: 'Web_1' is not a DNS name in lower case"),
    ({"pod_cidr": "10.42.0.1/16"}, {}, "--pod-cidr: 10.42.0.1/16 has host bits set"),
    ({"pod_cidr": "10.43.128.0/17"}, {}, "--pod-cidr: 10.43.128.0/17 overlaps 10.43.0.0/16"),
    ({"cluster_dns": "10.44.0.10"}, {}, "--cluster-dns: 10.44.0.10 is not in 10.43.0.0/16"),
    ({"runtime": "podman"}, {}, "--runtime: 'podman' is none of docker, hollow"),
    ({"disable": "dns,web"}, {}, "--disable: 'web' is none of"),
    ({"node_ports": "40000-30000"}, {}, "--node-ports: '40000-30000' is not a range"),
    ({"network": "bgp"}, {}, "--network: 'bgp' is none of auto, routes, vxlan"),
    ({"load_balancer_pool": "192.0.2.9-192.0.2.1"}, {}, "--load-balancer-pool: '192.0.2.9-192"),
    ({"store": "mysql"}, {}, "--store: 'mysql' is neither sqlite nor etcd://HOST:PORT"),
    ({"lease_renew": "often"}, {}, "--lease-renew: 'often' is not a number"),
    (
        {"lease_duration": "5", "lease_renew": "4"},
        {},
        "--lease-duration: renewal (4.0 s) < give-up",
    ),
    ({"lease_give_up": "2", "store": "etcd://h:1"}, {}, "--lease-duration: renewal (0.6 s) < give"),
    ({}, {"MESHKUBE_INGRESS_HTTP": "x"}, "MESHKUBE_INGRESS_HTTP: 'x' is not a whole number"),
]


def test_the_lease_is_short_where_others_wait_for_it():
    assert load({}, {}).lease_timing == (15, 10.5, 4.5)
    assert load({"store": "etcd://h:1"}, {}).lease_timing == (2, 1.4, 0.6)
    slow = {"store": "etcd://h:1", "lease_duration": "10", "lease_give_up": "9"}
    assert load(slow, {}).lease_timing == (10, 9.0, 3.0)


@pytest.mark.parametrize(("flags", "environ", "message"), BAD)
def test_a_bad_setting_is_named_in_one_line(flags, environ, message):
    with pytest.raises(ConfigError) as raised:
        load(flags, environ)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


BAD_FILES = [
    ("colour: blue", "unknown setting 'colour'"),
    ("- a\n- b", "is not a mapping of settings"),
    ("a: [1", "while parsing"),
    ("node-port: many", "node-port: 'many' is not a whole number"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, content, message):
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as raised:
        load({}, {}, file)
    assert message in str(raised.value)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_an_error_and_an_empty_one_is_not(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        load({}, {}, tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").touch()
    assert load({}, {}, tmp_path / "empty.yaml") == Config()


def test_a_password_has_no_flag_and_is_not_shown():
    config = load({}, {"MESHKUBE_STORE_PASSWORD": "hush", "MESHKUBE_STORE_USER": "mesh"})
    assert (config.store_user, config.store_password) == ("mesh", "hush")
    assert "hush" not in repr(config)
    parser = argparse.ArgumentParser()
    server.add_arguments(parser)
    assert "--store-password " not in parser.format_help()


def test_files_for_the_store_are_paths_or_absent(tmp_path: Path):
    assert load({}, {}).store_ca is None
    assert load({"store_ca": str(tmp_path / "ca.crt")}, {}).store_ca == tmp_path / "ca.crt"


def test_whoever_may_not_touch_the_kernel_gets_settings_that_need_no_right(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("meshkube.privileges.has", lambda capability: False)
    monkeypatch.setattr("meshkube.privileges.may_listen", lambda port: port >= 1024)
    config = load({}, {})
    assert config.userspace
    assert (config.ingress_http, config.ingress_https, config.dns_port) == (9080, 9443, 10053)
    # A gateway in the pods' network has Services' addresses, and every port of them.
    assert config.gateway
    assert (config.service_cidr, *config.dns_listens) == ("10.43.0.0/16", "10.43.0.10", 53)
    hollow = load({"runtime": "hollow"}, {})
    assert not hollow.gateway
    assert (hollow.service_cidr, *hollow.dns_listens) == ("127.43.0.0/16", "127.43.0.10", 10053)
    given = load({"ingress_http": "8081", "dataplane": "nftables"}, {})
    assert not given.userspace
    assert (given.ingress_http, given.service_cidr) == (8081, "10.43.0.0/16")


def test_who_may_touch_the_kernel_does_so_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("meshkube.privileges.has", lambda capability: True)
    assert not load({}, {}).userspace
    chosen = load({"dataplane": "userspace"}, {})
    assert chosen.userspace
    assert (chosen.service_cidr, chosen.ingress_http) == ("10.43.0.0/16", 80)
    given = load(
        {"dataplane": "userspace", "service_cidr": "127.43.0.0/16", "cluster_dns": "127.43.0.10"},
        {},
    )
    assert not given.gateway
