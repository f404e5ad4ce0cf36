"""Provisioning where no endpoint is needed: names, and the files that carry it into containers."""

import re
from pathlib import Path

import yaml

from infra.provision import Drift, StackDrift, queue_names
from infra.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.localstack.yml").read_text("utf-8"))
DOCKERFILE = (ROOT / "infra" / "Dockerfile").read_text("utf-8")


def _environment_names():
    """Every variable that Settings reads."""
    for name, field in Settings.model_fields.items():
        if field.validation_alias is None:
            yield f"DROPCHUTE_{name.upper()}"
        else:
            yield from field.validation_alias.choices


def test_queue_names_begin_with_the_stack():
    assert queue_names("blue") == {
        "queries": "blue-queries",
        "visualizations": "blue-visualizations",
        "controls": "blue-controls",
        "results": "blue-results.fifo",
        "dead_letters": "blue-dead-letters",
    }


def test_drift_says_what_was_wanted_and_what_was_found():
    error = StackDrift([Drift("Queries", "VisibilityTimeout", 60, 30)])

    assert "Queries.VisibilityTimeout: wanted 60, found 30" in str(error)


def test_containers_set_only_variables_that_the_settings_read():
    ours = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
    known = set(_environment_names())

    assert set(ours) == {"provision", "worker"}
    for service in ours.values():
        assert set(service["environment"]) <= known


def test_localstack_is_pinned_to_the_version_that_the_tests_run():
    lock = (ROOT / "infra" / "locks" / "localstack.txt").read_text("utf-8")
    version = re.search(r"^localstack-core==(\S+)", lock, re.MULTILINE)[1]

    assert COMPOSE["services"]["localstack"]["image"] == f"localstack/localstack:{version}"


def test_the_worker_starts_after_provisioning():
    waits_for = COMPOSE["services"]["worker"]["depends_on"]

    assert waits_for == {
        "localstack": {"condition": "service_healthy"},
        "provision": {"condition": "service_completed_successfully"},
    }


def test_docker_waits_longer_than_the_worker_drains():
    grace = COMPOSE["services"]["worker"]["stop_grace_period"]

    assert int(grace.removesuffix("s")) > Settings.model_fields["drain_seconds"].default


def test_the_image_takes_only_what_the_lock_allows_and_is_not_root():
    installs = [line for line in DOCKERFILE.splitlines() if "pip " in line]

    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    assert re.search(r"^USER (?!root)", DOCKERFILE, re.MULTILINE)


def test_locks_carry_hashes_and_no_addresses():
    for lock in (ROOT / "infra" / "locks").glob("*.txt"):
        text = lock.read_text("utf-8")
        pins = re.findall(r"^[A-Za-z0-9].*==.*$", text, re.MULTILINE)

        assert pins
        assert all(pin.endswith("\\") for pin in pins)
        assert "://" not in text
