#!/bin/sh
# Prepares the lab and runs the payload in it: process 1 of a user-mode-linux kernel, or of fresh
# namespaces on the host's own kernel. LAB_SCRATCH is the directory that boot.py wrote for this boot:
# `fstab`, `payload` and, where systemd is to be process 1, `unit`, whose command is `init payload`.
# The payload's exit status, or a word where it did not come to that, goes to `status` there.
# Every process costs 45 ms in user-mode-linux, so there are few.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

prepare() {
    # The first lines of fstab mount /proc, /run, and this directory, which may be hidden then, on /run/lab.
    cd "$LAB_SCRATCH" || fail "$LAB_SCRATCH is not to be seen"
    mount --no-mtab --no-canonicalize --all --fstab fstab || fail "cannot mount what the lab needs"
    cd /
    mkdir -p /run/tmp /run/netns /run/lock
    chmod 1777 /run/tmp
    [ "$LAB_KERNEL" = host ] || prepare_kernel
    ip link set lo up
}

prepare_kernel() {
    release=$(cat /proc/sys/kernel/osrelease)
    # The kernel calls modprobe itself (schedulers on demand), and modprobe looks in /lib/modules, which is
    # the host's and has none of this kernel's.
    mkdir -p /run/modules/lib/modules
    ln -s "/usr/lib/uml/modules/$release" "/run/modules/lib/modules/$release"
    printf '#!/bin/sh\nexec /sbin/modprobe -d /run/modules "$@"\n' >/run/modprobe
    chmod +x /run/modprobe
    echo /run/modprobe >/proc/sys/kernel/modprobe
    /run/modprobe ip_vs || fail "this kernel ($release) has no ip_vs module"
    # The console is a terminal that turns each line feed into two characters.
    [ -n "$LAB_TERMINAL" ] || stty -F /dev/tty1 -opost
}

run_payload() {
    # The tests' servers and clients are all in one process, and hold more than the usual 1024 descriptors.
    ulimit -n 20000
    if [ "$LAB_KERNEL" = host ]; then
        sh /run/lab/payload
    elif [ -n "$LAB_INTERACTIVE" ]; then
        setsid -c sh /run/lab/payload </dev/tty1 >/dev/tty1 2>&1
    elif [ -n "$LAB_TERMINAL" ]; then
        sh /run/lab/payload </dev/null >/dev/tty1 2>&1
    else
        # Outside, the output is no terminal, so it must not look like one in here.
        mkfifo /run/output
        cat </run/output >/dev/tty1 &
        copier=$!
        sh /run/lab/payload </dev/null >/run/output 2>&1
        status=$?
        # What the payload left running may hold the pipe open.
        { sleep 1; kill $copier; } 2>/dev/null &
        wait $copier
        return $status
    fi
}

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

if [ "$1" != payload ]; then
    prepare
    if [ -e /run/lab/unit ]; then
        mkdir -p /run/systemd/system
        cp /run/lab/unit /run/systemd/system/lab.service
        exec /lib/systemd/systemd --unit=lab.service </dev/null >/dev/null 2>&1
    fi
fi
run_payload
finish $?
