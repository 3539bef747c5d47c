#!/bin/sh
# A reserved worker: runs one order of a mailbox after another, until the mailbox says stop (docs/iterate.md).
#
#   CALIB_JOB=<number> CALIB_ATTEMPT=<epoch> worker.sh MAILBOX HEARTBEAT GIVE_UP WALL
#
# MAILBOX is a folder that the watcher sees too; times are in seconds, WALL 0 is no limit. An order is a shell script
# that runs any program. Needs a POSIX shell and /proc, nothing else; it never looks at the clock of the machine.
# Orders keep the inputs that they have fetched below FETCHED_INPUTS, where the batch system gives it a folder.
#
# Exit codes: 0 it was told to stop, or is replaced, or its wall time is nearly over; 70 three programs have failed one
# after the other; 71 the constants are not what they should be; 75 the mailbox was silent for GIVE_UP.
set -u
me=$CALIB_JOB epoch=$CALIB_ATTEMPT every=$2 give_up=$3 wall=$4
box=$(cd "$1" && pwd) || exit 75
host=$(uname -n) || host=unknown
if [ -n "${_CONDOR_SCRATCH_DIR:-}" ]; then
    FETCHED_INPUTS=$_CONDOR_SCRATCH_DIR/fetched
    export FETCHED_INPUTS
fi
case $host in *[!A-Za-z0-9._-]*) host=unknown ;; esac
child='' order=- state=idle seen=0 failed=0

# Sets t, in hundredths of a second since whenever.
now() {
    IFS=' ' read -r up _ </proc/uptime
    t=${up%.*}${up#*.}
}

# Sleeps for hundredths of a second.
nap() {
    rest=$(($1 % 100))
    [ $rest -gt 9 ] || rest=0$rest
    sleep $(($1 / 100)).$rest 2>/dev/null || sleep 1
}

beat() {
    # On a full disk the file stays what it was, and is fresh all the same: that is no reason to be taken for lost.
    { { printf '%s %s %s %s\n' "$epoch" "$order" "$state" "$host" >"$box/beats/.$me.$epoch" &&
        mv -f "$box/beats/.$me.$epoch" "$box/beats/$me"; } || touch -c "$box/beats/$me"; } 2>/dev/null
    now
    beaten=$t
}

# Reads the mailbox: sets mailbox (go, stop, silent), mine (the epoch that it wants) and wanted (the order).
look() {
    mailbox=silent mine=0 wanted=-
    what='' serial=0 complete=''
    while IFS=' ' read -r word one two three; do
        case $word in
        state) what=$one ;;
        serial) serial=$one ;;
        worker) if [ "$one" = "$me" ]; then mine=$two wanted=$three; fi ;;
        end) complete=yes ;;
        esac
    done 2>/dev/null <"$box/current"
    now
    [ -n "$complete" ] || return 0
    heard=$t mailbox=$what
    # An older one was written by somebody who had slept: the next one is right again.
    if [ "$serial" -lt "$seen" ] && [ "$what" = go ]; then mine=$epoch wanted=$order; else seen=$serial; fi
}

# Whether the mailbox wants something else by now.
unwanted() {
    look
    [ "$mailbox" = stop ] || { [ "$mailbox" = go ] && { [ "$mine" != "$epoch" ] || [ "$wanted" != "$order" ]; }; }
}

# Ends what runs, if anything does.
end_child() {
    [ -n "$child" ] || return 0
    kill -s TERM -- "-$child" 2>/dev/null || kill -s TERM "$child" 2>/dev/null
    left=50
    while [ $left -gt 0 ] && lives; do
        nap 10
        left=$((left - 1))
    done
    kill -s KILL -- "-$child" 2>/dev/null || kill -s KILL "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    child=''
}

lives() {
    IFS= read -r line 2>/dev/null <"/proc/$child/stat" || return 1
    line=${line##*) }
    case $line in [ZX]*) return 1 ;; esac
}

leave() {
    trap '' TERM INT HUP
    end_child
    exit "$1"
}
trap 'leave 143' TERM
trap 'leave 130' INT
trap 'leave 129' HUP

sha256() {
    # As an input, since a digest is written otherwise of a file whose name has a backslash.
    { sha256sum <"$1" 2>/dev/null || shasum -a 256 <"$1" 2>/dev/null; } | {
        IFS=' ' read -r digest _ || digest=unknown
        printf %s "$digest"
    }
}

# An order is complete before the mailbox names it, too.
check_order() {
    tries=0
    until [ -r "$box/orders/$order" ]; do
        tries=$((tries + 1))
        [ $tries -lt 10 ] || return 1
        nap $((10 * tries))
    done
}

# The constants are complete before an order names them; a file system may show them a little later.
check_constants() {
    [ -n "$digest_wanted" ] || return 0
    command -v sha256sum >/dev/null || command -v shasum >/dev/null || return 0
    tries=0
    while :; do
        [ "$(sha256 "$constants")" != "$digest_wanted" ] || return 0
        tries=$((tries + 1))
        [ $tries -lt 10 ] || return 1
        nap $((10 * tries))
    done
}

# Runs the order; sets code and late. Gives up when somebody wants something else: then code is empty.
run() {
    order=$wanted state=running code='' late=false limit=0 digest_wanted='' constants=''
    now
    begun=$t
    if ! check_order; then
        code=125
        return
    fi
    while IFS= read -r line; do
        case $line in
        '# timeout '*) limit=${line#\# timeout } ;;
        '# constants '*)
            line=${line#\# constants }
            digest_wanted=${line%% *} constants=${line#* }
            ;;
        *) break ;;
        esac
    done 2>/dev/null <"$box/orders/$order"
    beat
    now
    begun=$t
    if ! check_constants; then
        state=idle
        beat
        leave 71
    fi
    if command -v setsid >/dev/null; then
        setsid sh "$box/orders/$order" </dev/null &
    else
        sh "$box/orders/$order" </dev/null &
    fi
    child=$! pause=10
    while lives; do
        nap $pause
        now
        pause=$(((t - begun) / 10 + 10))
        [ $pause -lt 100 ] || pause=100
        [ $((t - beaten)) -lt $((every * 100)) ] || beat
        if [ $limit -gt 0 ] && [ $((t - begun)) -ge $((limit * 100)) ]; then
            late=true
            end_child
            code=124
            return
        fi
        if unwanted; then
            end_child
            return
        fi
    done
    wait "$child"
    code=$?
    # What it has left running would go on beside the next one.
    kill -s KILL -- "-$child" 2>/dev/null
    child=''
}

# Hands over what became of an order, once: a second one of the same name is refused. Where that cannot be, as on a full
# disk, it is alive and waits, until somebody wants something else.
hand_over() {
    now
    took=$((t - begun)) part=$box/results/.$order.w$me.e$epoch
    until printf '{"order": "%s", "worker": %d, "epoch": %d, "exit_code": %d, "timeout": %s, "hundredths": %d, "host": "%s"}\n' \
        "$order" "$me" "$epoch" "$code" "$late" "$took" "$host" >"$part" 2>/dev/null &&
        { ln "$part" "$box/results/$order.w$me.e$epoch" 2>/dev/null || [ -e "$box/results/$order.w$me.e$epoch" ]; }; do
        nap 100
        ! unwanted || break
        [ $((t - beaten)) -lt $((every * 100)) ] || beat
        [ $((t - heard)) -lt $((give_up * 100)) ] || leave 75
    done
    rm -f "$part"
}

now
born=$t heard=$t idle=$t last=-
beat
while :; do
    look
    case $mailbox in
    stop) leave 0 ;;
    silent) [ $((t - heard)) -lt $((give_up * 100)) ] || leave 75 ;;
    go)
        # Of a larger epoch it is another worker that is meant; of a smaller one the mailbox is older than this one.
        [ "$mine" -le "$epoch" ] || leave 0
        # Started again by the batch system, it may have handed over what is asked for still: that is left as it is.
        for there in results taken; do
            [ ! -e "$box/$there/$wanted.w$me.e$epoch" ] || last=$wanted
        done
        if [ "$mine" = "$epoch" ] && [ "$wanted" != - ] && [ "$wanted" != "$last" ]; then
            run
            if [ -n "$code" ]; then
                hand_over
                last=$order
                if [ "$code" = 0 ]; then failed=0; else failed=$((failed + 1)); fi
            fi
            order=- state=idle
            [ $failed -lt 3 ] || leave 70
            now
            idle=$t
            beat
            continue
        fi
        ;;
    esac
    # The last tenth of the wall time is left: it goes on until another one has taken its place.
    if [ "$wall" -gt 0 ] && [ $((t - born)) -ge $((wall * 90)) ] && [ $state = idle ]; then
        state=leaving
        beat
    fi
    [ $((t - beaten)) -lt $((every * 100)) ] || beat
    pause=$(((t - idle) / 10 + 10))
    [ $pause -lt 1000 ] || pause=1000
    [ $pause -lt $((every * 100)) ] || pause=$((every * 100))
    nap $pause
done
