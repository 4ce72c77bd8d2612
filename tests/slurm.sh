#!/usr/bin/env bash
# A Slurm of one node on this machine, to try the Snakefile on: `tests/slurm.sh start`, `tests/slurm.sh stop`.
# Needs Debian's slurm-wlm and munge, and root (or the users they run as). Everything it writes lies in one folder.
set -euo pipefail
home=${ROTE_SLURM:-/tmp/rote-slurm}
export SLURM_CONF=$home/slurm.conf

case ${1:-} in
start)
    mkdir -p "$home/state" "$home/spool" /run/munge
    [ -f /etc/munge/munge.key ] || mungekey
    chown munge: /etc/munge/munge.key /run/munge
    pgrep -x munged >/dev/null || su -s /bin/sh munge -c /usr/sbin/munged
    node=$(hostname -s)
    cat >"$SLURM_CONF" <<CONF
ClusterName=rote
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MinJobAge=3600
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd.log
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
    # Jobs look for it where Slurm always does.
    mkdir -p /etc/slurm
    [ -e /etc/slurm/slurm.conf ] || ln -s "$SLURM_CONF" /etc/slurm/slurm.conf
    slurmctld
    slurmd
    for _ in $(seq 100); do
        sinfo -h -o %t 2>/dev/null | grep -q idle && exec sinfo
        sleep 0.2
    done
    tail -n 20 "$home"/*.log && exit 1
    ;;
stop)
    [ "$(readlink /etc/slurm/slurm.conf || true)" != "$SLURM_CONF" ] || rm /etc/slurm/slurm.conf
    for daemon in slurmd slurmctld; do
        [ ! -f "$home/$daemon.pid" ] || kill "$(cat "$home/$daemon.pid")" || true
    done
    ;;
*)
    echo "usage: tests/slurm.sh start|stop" >&2
    exit 2
    ;;
esac
