#!/bin/sh
# A reserved worker: runs one order of a mailbox after another, until the mailbox says stop (docs/iterate.md).
#
#   CALIB_JOB=<number> CALIB_ATTEMPT=<epoch> worker.sh MAILBOX HEARTBEAT GIVE_UP WALL
#
# MAILBOX is a folder that the watcher sees too; times are in seconds, WALL 0 is no limit. An order is a shell script
# that runs any program. Needs a POSIX shell and /proc, nothing else; it never looks at the clock of the machine.
# Orders keep the inputs that they have fetched below FETCHED_INPUTS, where the batch system gives it a folder.
#
# With MAILBOX_BY=condor_chirp MAILBOX is a folder of HTCondor's access point, which only that program reaches:
# what an order needs is fetched, what it leaves goes back as a tar file. That needs condor_chirp and tar.
#
# Exit codes: 0 it was told to stop, or is replaced, or its wall time is nearly over; 70 three programs have failed one
# after the other; 71 the constants are not what they should be; 72 from where it is it cannot reach the mailbox, or
# bring anything there; 75 the mailbox was silent for GIVE_UP.
set -u
me=$CALIB_JOB epoch=$CALIB_ATTEMPT every=$2 give_up=$3 wall=$4
by=${MAILBOX_BY:-}
unset MAILBOX_BY
host=$(uname -n) || host=unknown
if [ "$by" = condor_chirp ]; then
    box=$1 scratch=${_CONDOR_SCRATCH_DIR:?}
    fetched=$scratch/fetched own=$scratch/worker
    mkdir -p "$own" "$fetched" || exit 72
    libexec=$(condor_config_val LIBEXEC 2>/dev/null) || libexec=
    for chirp in "$(command -v condor_chirp)" "$libexec/condor_chirp" /usr/libexec/condor/condor_chirp ''; do
        [ ! -x "$chirp" ] || break
    done
    if [ -z "$chirp" ] || ! command -v tar >/dev/null; then
        echo "condor_chirp or tar is missing on $host: without them no mailbox of an access point is reached" >&2
        exit 72
    fi
elif ! box=$(cd "$1" && pwd); then
    exit 75
elif [ -n "${_CONDOR_SCRATCH_DIR:-}" ]; then
    FETCHED_INPUTS=$_CONDOR_SCRATCH_DIR/fetched
    export FETCHED_INPUTS
fi
case $host in *[!A-Za-z0-9._-]*) host=unknown ;; esac
child='' order=- state=idle seen=0 failed=0
# Hundredths of a second between two looks, at first.
if [ "$by" = condor_chirp ]; then shortest=30; else shortest=20; fi

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

# The two ways to a mailbox: get, there, say_alive, put_once.

if [ "$by" = condor_chirp ]; then
    # Nothing here opens a file of the access point for a put that may fail but with -mode: without it a failure breaks
    # the job's connection for good. With it a file arrives slowly, so that large ones go without, to a folder that is
    # known to be there.
    ask() {
        "$chirp" "$@" >/dev/null 2>&1 </dev/null
    }

    # Sets file to where a file of the mailbox can be read.
    get() {
        file=$own/got
        ask fetch "$box/$1" "$file"
    }

    there() {
        ask access "$box/$1" f
    }

    # There is no renaming: always as long as before, it is written over, at once.
    say_alive() {
        printf '%-300s\n' "$1" | "$chirp" put -mode cw -perm 644 - "$box/beats/$me" >/dev/null 2>&1
    }

    # Puts a text there under a name that nothing has yet.
    put_once() {
        part=$box/$1/.$2
        printf '%s\n' "$3" | "$chirp" put -mode cwt -perm 644 - "$part" >/dev/null 2>&1 || return 1
        ask link "$part" "$box/$1/$2" || there "$1/$2" || return 1
        ask remove "$part"
        return 0
    }
else
    get() {
        file=$box/$1
        [ -r "$file" ]
    }

    there() {
        [ -e "$box/$1" ]
    }

    # On a full disk the file stays what it was, and is fresh all the same: that is no reason to be taken for lost.
    say_alive() {
        part=$box/beats/.$me.$epoch
        { { printf '%s\n' "$1" >"$part" && mv -f "$part" "$box/beats/$me"; } || touch -c "$box/beats/$me"; } 2>/dev/null
    }

    put_once() {
        part=$box/$1/.$2
        printf '%s\n' "$3" 2>/dev/null >"$part" || return 1
        ln "$part" "$box/$1/$2" 2>/dev/null || there "$1/$2" || return 1
        rm -f "$part"
    }
fi

beat() {
    say_alive "$epoch $order $state $host"
    now
    beaten=$t
}

keep_beating() {
    [ $((t - beaten)) -lt $((every * 100)) ] || beat
}

# As nap, with signs of life.
linger() {
    nap "$1"
    now
    keep_beating
}

# Reads the mailbox: sets mailbox (go, stop, silent), mine (the epoch that it wants) and wanted (the order).
look() {
    mailbox=silent mine=0 wanted=-
    what='' serial=0 complete=''
    if get current; then
        while IFS=' ' read -r word one two three; do
            case $word in
            state) what=$one ;;
            serial) serial=$one ;;
            worker) if [ "$one" = "$me" ]; then mine=$two wanted=$three; fi ;;
            end) complete=yes ;;
            esac
        done 2>/dev/null <"$file"
    fi
    now
    looked=$t
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

# An order is complete before the mailbox names it, too. Sets script.
check_order() {
    tries=0
    until get "orders/$order"; do
        tries=$((tries + 1))
        [ $tries -lt 10 ] || return 1
        linger $((10 * tries))
    done
    script=$file
    [ "$by" = condor_chirp ] || return 0
    script=$own/order
    mv -f "$file" "$script"
}

# What the order needs of the access point, each file once; what is of another step is not needed any more.
fetch() {
    for one in "$fetched"/s*; do
        [ "$one" = "$fetched/${order%%.*}" ] || rm -rf "$one"
    done
    while IFS= read -r line; do
        case $line in
        '# file '*) line=${line#\# file } ;;
        '# '*) continue ;;
        *) break ;;
        esac
        mode=${line%% *} line=${line#* }
        path=${line#* } here=$fetched/${line%% *}${line#* }
        asked=0
        until [ -e "$here" ]; do
            mkdir -p "${here%/*}"
            ask fetch "$path" "$here.part" && chmod "$mode" "$here.part" && mv "$here.part" "$here" && break
            asked=$((asked + 1))
            [ $asked -lt 5 ] || return 1
            linger $((20 * asked))
        done
        now
        keep_beating
        if unwanted; then return 1; fi
    done <"$script"
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
        linger $((10 * tries))
        [ "$by" != condor_chirp ] || { rm -f "$constants" && fetch; }
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
    done 2>/dev/null <"$script"
    beat
    if [ "$by" = condor_chirp ]; then
        case $constants in ?*) constants=$scratch/$constants ;; esac
        if ! fetch; then
            unwanted || code=125
            return
        fi
    fi
    now
    begun=$t
    if ! check_constants; then
        state=idle
        beat
        leave 71
    fi
    if command -v setsid >/dev/null; then
        setsid sh "$script" </dev/null &
    else
        sh "$script" </dev/null &
    fi
    child=$! pause=10
    while lives; do
        nap $pause
        now
        pause=$(((t - begun) / 10 + 10))
        [ $pause -lt 100 ] || pause=100
        keep_beating
        if [ $limit -gt 0 ] && [ $((t - begun)) -ge $((limit * 100)) ]; then
            late=true
            end_child
            code=124
            return
        fi
        [ $((t - looked)) -ge 80 ] || continue
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

# What the order has left goes to the access point as one file: complete before a result names it. Sets left_file.
bring() {
    [ -z "$left_file" ] && [ -d "$scratch/order" ] || return 0
    now
    bundle=$own/outputs.tar name=$order.w$me.e$epoch.$$-$t.tar
    tries=0
    # A bundle without stdout is taken for one that is cut, and a program may have removed that.
    until (cd "$scratch/order" && { [ -f stdout ] || : >stdout; } && tar cf "$bundle" -- *); do
        tries=$((tries + 1))
        if [ $tries -ge 3 ]; then
            # As on a full disk of this machine, which nothing here would make empty.
            echo "what $order has left cannot be packed on $host" >&2
            leave 72
        fi
        # Files that the program made unreadable, or whatever it has left running still writes.
        chmod -R u+rX "$scratch/order" 2>/dev/null
        linger 100
    done
    size=$(($(wc -c <"$bundle")))
    # That the folder can be written to is known before much is put there.
    ask put -mode cwt -perm 644 /dev/null "$box/outputs/$name" && ask put -perm 644 "$bundle" "$box/outputs/$name" || return 1
    left_file=", \"files\": \"$name\", \"bytes\": $size"
}

# Hands over what became of an order, once: a second one of the same name is refused. Where that cannot be, as on a full
# disk, it is alive and waits, until somebody wants something else.
hand_over() {
    now
    took=$((t - begun)) left_file=''
    while :; do
        if [ "$by" != condor_chirp ] || bring; then
            said=$(printf '{"order": "%s", "worker": %d, "epoch": %d, "exit_code": %d, "timeout": %s' \
                "$order" "$me" "$epoch" "$code" "$late")
            said="$said, \"hundredths\": $took, \"host\": \"$host\"$left_file}"
            ! put_once results "$order.w$me.e$epoch" "$said" || break
        fi
        nap 100
        if unwanted; then break; fi
        keep_beating
        [ $((t - heard)) -lt $((give_up * 100)) ] || leave 75
    done
    if [ "$by" = condor_chirp ]; then
        rm -rf "$scratch/order" "$own/outputs.tar"
    else
        rm -f "$box/results/.$order.w$me.e$epoch"
    fi
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
        if [ "$mine" = "$epoch" ] && [ "$wanted" != - ] && [ "$wanted" != "$last" ]; then
            for place in results taken; do
                ! there "$place/$wanted.w$me.e$epoch" || last=$wanted
            done
        fi
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
    keep_beating
    pause=$(((t - idle) / 10 + shortest))
    [ $pause -lt 1000 ] || pause=1000
    [ $pause -lt $((every * 100)) ] || pause=$((every * 100))
    nap $pause
done
