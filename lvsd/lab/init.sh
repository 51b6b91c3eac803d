#!/bin/sh
# Prepares the lab and runs the payload in it: process 1 of a user-mode-linux kernel, or of fresh
# namespaces on the host's own kernel. LAB_SCRATCH is the directory that kernel.py wrote for this boot:
# `fstab`, `payload`, `status` and, where systemd is to be process 1, `unit`.
# Every process costs 45 ms in user-mode-linux, so there are few.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "lab: $1" >&2
    finish broken
}

finish() {
    echo "$1" >/run/lab/status
    [ "$LAB_KERNEL" = host ] && exit
    echo o >/proc/sysrq-trigger
    while :; do sleep 1; done
}

# The first lines of fstab mount /proc, /run, and this boot's scratch on /run/lab.
mount -n -a -T "$LAB_SCRATCH/fstab" || fail "cannot mount the file systems of $LAB_SCRATCH/fstab"
mkdir -p /run/tmp /run/netns /run/lock
chmod 1777 /run/tmp

if [ "$LAB_KERNEL" = uml ]; then
    release=$(cat /proc/sys/kernel/osrelease)
    # The kernel calls modprobe itself (schedulers on demand), and modprobe looks in /lib/modules, which is
    # the host's and has none of this kernel's.
    mkdir -p /run/modules/lib/modules
    ln -s "/usr/lib/uml/modules/$release" "/run/modules/lib/modules/$release"
    printf '#!/bin/sh\nexec /sbin/modprobe -d /run/modules "$@"\n' >/run/modprobe
    chmod +x /run/modprobe
    echo /run/modprobe >/proc/sys/kernel/modprobe
    /run/modprobe ip_vs || fail "this kernel ($release) has no ip_vs module"
    # The console is a terminal that would turn each line feed into two characters.
    [ -n "$LAB_INTERACTIVE" ] || stty -F /dev/tty1 -opost
fi
ip link set lo up

if [ -e /run/lab/unit ]; then
    mkdir -p /run/systemd/system
    cp /run/lab/unit /run/systemd/system/lab.service
    exec /lib/systemd/systemd --unit=lab.service </dev/null >/dev/null 2>&1
fi

if [ "$LAB_KERNEL" = host ]; then
    sh /run/lab/payload
elif [ -n "$LAB_INTERACTIVE" ]; then
    setsid -c sh /run/lab/payload </dev/tty1 >/dev/tty1 2>&1
else
    sh /run/lab/payload </dev/null >/dev/tty1 2>&1
fi
finish $?
