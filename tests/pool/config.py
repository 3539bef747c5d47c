"""The configuration of a test pool: strict about who may do what, and quick in everything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

DOMAIN: Final = "pool.test"
MAIN: Final = f"main@{DOMAIN}"
OTHER: Final = f"other@{DOMAIN}"
PLACE: Final = "/pool"  # where the pool's own folder is seen inside

FOLDERS: Final = ("log", "run", "lock", "spool", "execute", "other", "other/spool", "other/lock")


CPUS: Final = 16
"""That the machine says it has; the second schedd has four of them for itself."""


def configuration(
    port: int, shared: Path, control_group: str = "", cpus: int = CPUS, *, negotiates_as_usual: bool = False
) -> str:
    """The text of ``condor_config``.

    Args:
        port: the pool's one open port.
        shared: the folder that jobs see under its own path, also in containers.
        control_group: under which jobs get theirs; nothing if they get none.
        cpus: that the machine says it has, with 1 GB of memory each.
        negotiates_as_usual: as often as HTCondor does by itself: within a minute, and at least 20 s apart.
    """
    names = {"domain": DOMAIN, "main": MAIN, "other": OTHER, "place": PLACE}
    size = {"cpus": cpus, "most": cpus - 4, "memory": 1000 * cpus, "most_memory": 1000 * (cpus - 4)}
    text = re.sub(r"^NEGOTIATOR_(MIN_)?(INTERVAL|CYCLE).*\n", "", _TEXT, flags=re.M) if negotiates_as_usual else _TEXT
    return text.format(port=port, shared=shared, group=control_group, **names, **size)


_TEXT = """
# --- Places: nothing of the pool's lies in the root folder that pools share.
RELEASE_DIR = /usr
BIN = /usr/bin
SBIN = /usr/sbin
LIB = /usr/lib/condor
LIBEXEC = /usr/libexec/condor
SHARE = /usr/share/condor
LOCAL_DIR = {place}
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =
REQUIRE_LOCAL_CONFIG_FILE = False
LOG = {place}/log
RUN = {place}/run
LOCK = {place}/lock
SPOOL = {place}/spool
EXECUTE = {place}/execute
DAEMON_SOCKET_DIR = {place}/run
# Not in LOCK, which each schedd has for itself.
SHARED_PORT_DAEMON_AD_FILE = {place}/run/shared_port_ad
MAIL =

# --- Only this machine. Every daemon is reached through the one port.
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = {domain}
UID_DOMAIN = {domain}
FILESYSTEM_DOMAIN = {domain}
# The user of a job is the one of the token, whatever the host is called.
TRUST_UID_DOMAIN = True

# --- Roles, with two schedds.
use ROLE: CentralManager
use ROLE: Submit
use ROLE: Execute
SCHEDD_NAME = {main}
SCHEDD_OTHER = $(SCHEDD)
SCHEDD_OTHER_ARGS = -local-name other
DAEMON_LIST = $(DAEMON_LIST) SCHEDD_OTHER
DC_DAEMON_LIST = + SCHEDD_OTHER
OTHER.SCHEDD_NAME = {other}
OTHER.SCHEDD_LOG = {place}/log/OtherScheddLog
OTHER.LOCK = {place}/other/lock
OTHER.SPOOL = {place}/other/spool
OTHER.HISTORY = {place}/other/spool/history
OTHER.SCHEDD_ADDRESS_FILE = {place}/other/spool/.schedd_address
OTHER.SCHEDD_DAEMON_AD_FILE = {place}/other/spool/.schedd_classad
OTHER.PROCD_ADDRESS = {place}/run/other_procd_pipe

# --- Who: a token that this pool signed, for everything, reading too; no other way in.
TRUST_DOMAIN = {domain}
SEC_PASSWORD_DIRECTORY = {place}/passwords.d
SEC_TOKEN_POOL_SIGNING_KEY_FILE = {place}/passwords.d/POOL
SEC_TOKEN_SYSTEM_DIRECTORY = {place}/tokens.d
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_READ_AUTHENTICATION = REQUIRED
SEC_CLIENT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_INTEGRITY = REQUIRED
SEC_DEFAULT_ENCRYPTION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_READ_AUTHENTICATION_METHODS = IDTOKENS
SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS
ALLOW_READ = *@{domain}
ALLOW_WRITE = *@{domain}
ALLOW_DAEMON = condor@{domain}
ALLOW_NEGOTIATOR = condor@{domain}
ALLOW_ADMINISTRATOR = condor@{domain}
ALLOW_ADVERTISE_MASTER = condor@{domain}
ALLOW_ADVERTISE_SCHEDD = condor@{domain}
ALLOW_ADVERTISE_STARTD = condor@{domain}
QUEUE_SUPER_USERS = condor, condor@{domain}

# --- Slots: requests are carved out of one machine; a part of it serves the other schedd alone,
# so that the main one, however busy or stuck, leaves it some.
NUM_CPUS = {cpus}
MEMORY = {memory}
SLOT_TYPE_1 = cpus={most}, memory={most_memory}, disk=50%
SLOT_TYPE_1_PARTITIONABLE = True
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_2 = cpus=4, memory=4000, disk=25%
SLOT_TYPE_2_PARTITIONABLE = True
NUM_SLOTS_TYPE_2 = 1
SLOT_TYPE_2_START = substr(TARGET.GlobalJobId, 0, 6) == "other@"
BASE_CGROUP = {group}
# Where the kernel does not, the startd holds a job that takes more memory than its slot has.
use POLICY : HOLD_IF_MEMORY_EXCEEDED
MOUNT_UNDER_SCRATCH =
# Containers see the shared file system, as at a site.
SINGULARITY = /usr/bin/apptainer
SINGULARITY_BIND_EXPR = "{shared}"
RUNBENCHMARKS = 0

# --- Quick in everything.
SCHEDD_INTERVAL = 5
SCHEDD_MIN_INTERVAL = 1
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_UPDATE_INTERVAL = 5
# A silent schedd holds up the negotiator, and with it the other schedd's jobs, for no longer than this.
NEGOTIATOR_TIMEOUT = 2
UPDATE_INTERVAL = 5
MASTER_UPDATE_INTERVAL = 5
POLLING_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 5
MAX_PERIODIC_EXPR_INTERVAL = 5
SYSTEM_PERIODIC_EXPR_INTERVAL = 5
STARTER_INITIAL_UPDATE_INTERVAL = 1
STARTER_UPDATE_INTERVAL = 2
SHADOW_QUEUE_UPDATE_INTERVAL = 2
SHADOW_WORKLIFE = 60
JOB_START_DELAY = 0
MASTER_BACKOFF_CONSTANT = 1
MASTER_BACKOFF_CEILING = 2
MASTER_NEW_BINARY_RESTART = NEVER
"""
