"""What the processes of a node are told: their settings, and the commands that start them.

Everything of a node lives in process and mount namespaces of its own, its containers in a network of their own too. So
nodes beside each other do not meet, and when the first process ends, nothing is left but a folder and control groups.
"""

from __future__ import annotations

import json
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster.building import Programs

NODE: Final = "localhost"  # the API server reaches the kubelet by this name, for logs
NETWORK: Final = "/run/network"  # inside
SOCKET: Final = "/run/containerd.sock"  # inside
SANDBOX: Final = "localhost/pause:1"
COMPONENTS: Final = ("etcd", "containerd", "apiserver", "controller-manager", "scheduler", "kubelet")
USERS: Final = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    f"system:node:{NODE}": "system:nodes",
}
CLIENTS: Final = {
    "controller-manager": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
    "kubelet": f"system:node:{NODE}",
}


@dataclass(frozen=True)
class Ports:
    """Where the processes listen, all at 127.0.0.1."""

    etcd: int
    peer: int
    api: int
    kubelet: int


def write(folder: Path, found: Programs, ports: Ports, group: str, flags: dict[str, list[str]]) -> None:
    """Write all settings into the folder of a node, and a script for the start of each process.

    Args:
        folder: the node's.
        found: the programs.
        ports: where they listen.
        group: the control group of all pods.
        flags: more of them, for each component.
    """
    for name in ("pki", "log", "run", "kubelet", "network"):
        (folder / name).mkdir()
    _write_secrets(folder, ports)
    kubelet = _KUBELET | {
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupRoot": f"/{group}",
        "podLogsDir": str(folder / "pods"),
        "port": ports.kubelet,
        "resolvConf": str(folder / "resolv.conf"),
    }
    network = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.89.0.0/20"}]],
                    "dataDir": "/run/addresses",
                },
            }
        ],
    }
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (folder / "kubelet.json").write_text(json.dumps(kubelet))
    (folder / "network" / "pods.conflist").write_text(json.dumps(network))
    (folder / "audit.json").write_text(json.dumps(_AUDIT))
    (folder / "containerd.toml").write_text(
        _CONTAINERD.format(folder=folder, plugins=found.plugins, **_runtime(folder))
    )
    programs = {"pause": shlex.quote(str(found.folder / "pause")), "busybox": shlex.quote(found.find("busybox"))}
    (folder / "init.sh").write_text(_INIT.format(folder=shlex.quote(str(folder)), **programs))
    for name, command in _commands(folder, found, ports).items():
        line = shlex.join([*command, *flags.get(name, [])])
        # What gives up is started again, as everywhere: a controller-manager does so while the API server comes up.
        # What a test has killed stays dead.
        again = shlex.quote(f"while :; do {line}; [ $? = 137 ] && exit; sleep 1; done")
        text = f"cd {shlex.quote(str(folder))}\n{_exports(found.environment)}"
        text += f"setsid sh -c {again} {keeper(name)} >> log/{name}.log 2>&1 &\n"
        (folder / "run" / name).write_text(text)


def keeper(name: str) -> str:
    """What the shell is called that starts one of the node's processes again."""
    return f"keeper-of-{name}"


def client(ports: Ports, token: str, authority: Path) -> dict[str, Any]:
    """A client's settings, as in a kubeconfig, for who has this token.

    Args:
        ports: of the node.
        token: the client's.
        authority: the file of the certificate that the server's is compared with.
    """
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "tests",
                "cluster": {"server": f"https://127.0.0.1:{ports.api}", "certificate-authority": str(authority)},
            }
        ],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user"}}],
        "current-context": "tests",
    }


def tokens(folder: Path) -> dict[str, str]:
    """The tokens of the users that are there from the beginning, by their names."""
    lines = (folder / "pki" / "tokens.csv").read_text().splitlines()
    return {line.split(",")[1]: line.split(",")[0] for line in lines}


def _write_secrets(folder: Path, ports: Ports) -> None:
    """The tokens and the key of service accounts, and who of the components is who."""
    folder.joinpath("pki").chmod(0o700)
    lines = [f'{secrets.token_hex(16)},{user},{user},"{group}"' for user, group in USERS.items()]
    (folder / "pki" / "tokens.csv").write_text("\n".join(lines) + "\n")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    (folder / "pki" / "accounts.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    known = tokens(folder)
    for name, user in CLIENTS.items():
        settings = client(ports, known[user], folder / "pki" / "apiserver.crt")
        (folder / "pki" / f"{name}.json").write_text(json.dumps(settings))


def _exports(variables: dict[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _runtime(folder: Path) -> dict[str, str]:
    """What depends on the machine: layers cannot be laid over a folder that is made of layers itself."""
    kinds = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split(" ")
        kinds[Path(place)] = kind
    own = next(kinds[place] for place in (folder, *folder.parents) if place in kinds)
    return {"snapshotter": "native" if own == "overlay" else "overlayfs", "socket": SOCKET, "sandbox": SANDBOX}


def _commands(folder: Path, found: Programs, ports: Ports) -> dict[str, list[str]]:
    kube, pki = str(found.folder / "kube"), folder / "pki"
    etcd, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.peer}"
    return {
        "etcd": [
            *(kube, "etcd", "--data-dir", "etcd", "--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn"),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *(
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                f"default={peer}",
            ),
        ],
        "containerd": ["nsenter", f"--net={NETWORK}", found.find("containerd"), "--config", "containerd.toml"],
        "apiserver": [
            *(kube, "apiserver", "--etcd-servers", etcd, "--secure-port", str(ports.api)),
            *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none"),
            *("--cert-dir", "pki", "--token-auth-file", "pki/tokens.csv", "--authorization-mode", "Node,RBAC"),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", "pki/accounts.key"),
            *("--service-account-signing-key-file", "pki/accounts.key"),
            *("--service-cluster-ip-range", "10.96.0.0/24", "--allow-privileged=true"),
            *("--kubelet-preferred-address-types", "Hostname"),
        ],
        "controller-manager": [
            *(kube, "controller-manager", "--kubeconfig", str(pki / "controller-manager.json")),
            *("--service-account-private-key-file", "pki/accounts.key", "--use-service-account-credentials=true"),
            *("--controllers", "*,-cloud-node-lifecycle,-service-lb-controller"),
            *("--leader-elect=false", "--authentication-skip-lookup", "--secure-port", "0"),
            # By default 20 requests/s in all, which is made for clusters that others use too.
            *("--kube-api-qps", "200", "--kube-api-burst", "400"),
        ],
        "scheduler": [
            *(kube, "scheduler", "--kubeconfig", str(pki / "scheduler.json")),
            *("--leader-elect=false", "--authentication-skip-lookup", "--secure-port", "0"),
        ],
        "kubelet": [
            *(kube, "kubelet", "--kubeconfig", str(pki / "kubelet.json"), "--config", "kubelet.json"),
            *("--hostname-override", NODE, "--cert-dir", "pki"),
        ],
    }


AUDIT_FLAGS = ["--audit-policy-file", "audit.json", "--audit-log-path", "log/audit.log", "--audit-log-maxsize", "2000"]
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}

_KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": "127.0.0.1",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "healthzPort": 0,
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": True,
    "enforceNodeAllocatable": [],
    "failSwapOn": False,
    "failCgroupV1": False,
    "localStorageCapacityIsolation": True,  # so that who takes more disk than allowed is evicted
    # A full disk of the machine is not what tests are about.
    "evictionHard": {
        "memory.available": "0%",
        "nodefs.available": "0%",
        "imagefs.available": "0%",
        "nodefs.inodesFree": "0%",
    },
    "imageGCHighThresholdPercent": 100,
    "makeIPTablesUtilChains": False,
    "maxPods": 250,
    "clusterDNS": ["10.96.0.10"],  # without one, each pod has a warning
    "clusterDomain": "cluster.local",
    "serializeImagePulls": False,
    "registryPullQPS": 0,
    "kubeAPIQPS": 100,
    "kubeAPIBurst": 200,
    "eventRecordQPS": 100,
    "shutdownGracePeriod": "0s",
}

# oom_score_adj: where this may not be lowered, runc dies of trying.
_CONTAINERD = """version = 2
root = "{folder}/containerd"
state = "/run/containerd/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/network"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""

# What is written to places that cannot be chosen goes to memory, and goes with the node.
_INIT = f"""set -eu
cd {{folder}}
# The /proc of the outside still: it tells this process's number there.
read -r pid rest < /proc/self/stat
mount -t proc proc /proc
mkdir -p /var/lib/kubelet
mount --bind kubelet /var/lib/kubelet
mount -t tmpfs -o mode=755 tmpfs /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/containerd
touch {NETWORK}
unshare --net={NETWORK} {{busybox}} ip link set lo up
echo $pid > init.new
mv init.new init.pid
exec {{pause}}
"""
