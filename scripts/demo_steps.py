"""The steps of `make demo` once the host has what they need, and those of `make down`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = Path(os.environ.get("MESHKUBE_DEMO_DIR") or ROOT / ".demo")
EXAMPLE = ROOT / "examples/quickstart"
MESHKUBE = str(ROOT / ".venv/bin/meshkube")
DATA = Path(os.environ.get("MESHKUBE_DATA_DIR") or "/var/lib/meshkube")
KUBECONFIG = DATA / "kubeconfig.yaml"
PID_FILE = WORK / "meshkube.pid"
LOG_FILE = WORK / "meshkube.log"
IMAGE = "meshkube/quickstart:1"
HOST = "shop.example"
NODE_DNS = "10.43.0.10"
MANIFESTS = ("namespace.yaml", "user.yaml", "products.yaml", "ingress.yaml")
START_TIMEOUT = 60.0
ROLLOUT_TIMEOUT = 120.0

changed: list[str] = []


class DemoError(Exception):
    """A step that failed: the message says what to look at."""


def output(*command: str, env: dict[str, str] | None = None) -> str:
    """What a command printed; a failure raises with all it said."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    if done.returncode:
        raise DemoError(f"{' '.join(command)}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def say(text: str) -> None:
    print(text, flush=True)


def did(what: str) -> None:
    changed.append(what)
    say(f"  {what}")


def build_image() -> None:
    say("Image")
    if output("docker", "images", "-q", IMAGE).strip():
        say(f"  {IMAGE} is there")
        return
    output(str(EXAMPLE / "image/build"))
    did(f"built {IMAGE} from busybox: no registry is needed")


def running_server() -> int | None:
    """The process id of the demo's server, while it runs."""
    try:
        pid = int(PID_FILE.read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    # A process that is just being started shows no command line yet.
    ours = not command or b"meshkube" in command
    return pid if ours and state not in "ZX" else None


def start_server() -> None:
    say("Server")
    pid = running_server()
    if pid is None:
        WORK.mkdir(exist_ok=True)
        command = [MESHKUBE, "server"]
        if os.environ.get("DOCKER_HOST"):
            command += ["--docker", os.environ["DOCKER_HOST"]]
        with LOG_FILE.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        PID_FILE.write_text(f"{process.pid}\n")
        did(f"started meshkube server, pid {process.pid}, log in {LOG_FILE}")
    else:
        say(f"  meshkube server runs, pid {pid}")
    wait("every part ready", START_TIMEOUT, parts_not_ready)


def parts_not_ready() -> str:
    """What `/readyz` still misses; empty when every part serves."""
    if running_server() is None:
        tail = "\n".join(LOG_FILE.read_text().splitlines()[-5:])
        raise DemoError(f"the server ended; the last lines of {LOG_FILE}:\n{tail}")
    if not KUBECONFIG.exists():
        return "starting"
    trust = ssl.create_default_context(cafile=str(DATA / "pki/ca.crt"))
    request = urllib.request.Request("https://127.0.0.1:6443/readyz?verbose")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    try:
        with opener.open(request, timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        lines = error.read().decode().splitlines()
        bad = [line.removeprefix("[-]") for line in lines if line.startswith("[-]")]
        return ", ".join(line.replace(" failed: ", ": ") for line in bad) or "not ready"
    except OSError as error:
        return f"the API does not answer yet ({error})"


def wait(what: str, timeout: float, missing: Callable[[], str]) -> None:
    """Waits until `missing` returns nothing, and shows what it is still waiting for."""
    started = time.monotonic()
    shown = ""
    while True:
        left = missing()
        if not left:
            say(f"  {what} ({time.monotonic() - started:.1f} s)")
            return
        if left != shown:
            say(f"  ... {left}")
            shown = left
        if time.monotonic() - started > timeout:
            raise DemoError(f"{what}: not within {timeout:.0f} s: {left}; see {LOG_FILE}")
        time.sleep(0.1)


def meshkube(*arguments: str) -> str:
    return output(MESHKUBE, *arguments, env={"KUBECONFIG": str(KUBECONFIG)})


def apply_example() -> None:
    say("Objects")
    files = [argument for name in MANIFESTS for argument in ("-f", str(EXAMPLE / name))]
    report(meshkube("apply", *files))
    certificate()


def report(lines: str) -> None:
    for line in lines.splitlines():
        if line.endswith(" unchanged"):
            say(f"  {line}")
        else:
            did(line)


def certificate() -> None:
    """A self-signed certificate for the host name, as a TLS Secret, made on the spot."""
    found = json.loads(meshkube("get", "secrets", "-n", "shop", "-o", "json"))
    if any(item["metadata"]["name"] == "shop-tls" for item in found["items"]):
        say("  secret/shop-tls unchanged")
        return
    key, cert = WORK / "tls.key", WORK / "tls.crt"
    output(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "30", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}",
        "-keyout", str(key), "-out", str(cert),
    )  # fmt: skip
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "shop-tls", "namespace": "shop"},
        "stringData": {"tls.crt": cert.read_text(), "tls.key": key.read_text()},
    }
    file = WORK / "shop-tls.json"
    file.write_text(json.dumps(secret))
    file.chmod(0o600)
    report(meshkube("apply", "-f", str(file)))
    key.unlink()
    file.unlink()


def wait_for_rollouts() -> None:
    say("Rollouts")
    wait("user and products: 2 of 2 replicas each", ROLLOUT_TIMEOUT, rollouts_missing)


def rollouts_missing() -> str:
    found = json.loads(meshkube("get", "deployments", "-n", "shop", "-o", "json"))
    missing = []
    for item in found["items"]:
        wanted, status = item["spec"]["replicas"], item.get("status", {})
        ready = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0))
        if ready < wanted or status.get("observedGeneration") != item["metadata"]["generation"]:
            missing.append(f"{item['metadata']['name']}: {ready} of {wanted} replicas")
    return ", ".join(missing)


def prove() -> None:
    say("Proof")
    for scheme, port in (("http", 80), ("https", 443)):
        for path in ("/user", "/products"):
            show_answers(scheme, port, path)
    name = "user.shop.svc.cluster.local"
    command = ["dig", "+short", "+tries=1", f"@{NODE_DNS}", name]
    address = output(*command).strip()
    service = json.loads(meshkube("get", "service", "user", "-n", "shop", "-o", "json"))
    if address != service["spec"]["clusterIP"]:
        raise DemoError(f"{' '.join(command)} answered {address!r}")
    say(f"  $ {' '.join(command)}\n      {address}")


def show_answers(scheme: str, port: int, path: str) -> None:
    """Asks until both replicas have answered; the certificate is verified on HTTPS."""
    url = f"{scheme}://{HOST}{path}"
    command = ["curl", "--resolve", f"{HOST}:{port}:127.0.0.1", url]
    if scheme == "https":
        command[1:1] = ["--cacert", str(WORK / "tls.crt")]
    pods: dict[str, str] = {}
    deadline = time.monotonic() + 15
    while len(pods) < 2:
        try:
            # Only this cluster is asked: a proxy of the environment has no part in it.
            answer = output(*command, "-sS", "--fail-with-body", "-m", "5", "--noproxy", "*")
        except DemoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
            continue
        pods.setdefault(json.loads(answer)["pod"], answer.strip())
        if time.monotonic() > deadline:
            raise DemoError(f"{url}: only one replica answered: {', '.join(pods)}")
    verified = "; certificate verified" if scheme == "https" else ""
    say(f"  $ {' '.join(command)}   # both replicas answer{verified}")
    for answer in pods.values():
        say(f"      {answer}")


def what_next() -> None:
    say("\nWhat to type next:")
    say(f"  export KUBECONFIG={KUBECONFIG}")
    if shutil.which("kubectl"):
        say("  kubectl get all -A")
    else:
        say(f"  {MESHKUBE} get all -A   # kubectl works too, once installed")
    say("  make down   # removes it all")


def up() -> None:
    build_image()
    start_server()
    apply_example()
    wait_for_rollouts()
    prove()
    if changed:
        say(f"\nDone: {len(changed)} changes made.")
    else:
        say("\nDone: everything was in place already; nothing was changed.")
    what_next()


def down() -> None:
    """Ends the server, then removes all that it and the demo made, save Docker Engine itself."""
    pid = running_server()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while running_server() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if running_server() is not None:
            os.kill(pid, signal.SIGKILL)
        say(f"stopped meshkube server, pid {pid}")
    say(output(MESHKUBE, "reset", "--yes").rstrip())
    engine = subprocess.run(["docker", "version"], capture_output=True, check=False)
    if engine.returncode == 0 and output("docker", "images", "-q", IMAGE).strip():
        output("docker", "rmi", "-f", IMAGE)
        say(f"removed image {IMAGE}")


def main() -> int:
    try:
        down() if sys.argv[1:] == ["down"] else up()
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
