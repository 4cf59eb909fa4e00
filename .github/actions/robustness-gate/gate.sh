#!/usr/bin/env bash
# The shell of the composite action beside this file. tests/ci/ executes it exactly as the action does.
#
#   gate.sh guard     refuse to go on for a pull request from a fork
#   gate.sh install   make GATE_VENV and install this repository into it, with the extra GATE_EXTRA; every package that
#                     comes from an index has one of the digests in core.lock or run.lock
#   gate.sh terms     find whose policy, suite, preregistration and key this run is made under: the workspace's, or of what is not
#                     merged yet those of the branch that it goes to; refuse others than GATE_POLICY_SHA256 and
#                     GATE_PREREGISTRATION_KEY_ID name
#   gate.sh check     read GATE_POLICY and GATE_SUITE; an error becomes an annotation at its line
#   gate.sh fetch     plan, and so bring what is on the hub into the cache: the one step that has HF_TOKEN
#   gate.sh run       take GATE_CHECKPOINT (on GATE_BASE, beside GATE_ORIGINAL and GATE_CONTROLS) through the gate, with
#                     what GATE_LEDGERS knows of it and what GATE_SELF_TEST shows of the attacks, and leave with the
#                     gate's own exit code
#
# What goes in are environment variables, never arguments pasted into a script: an input cannot become code.
# What comes out: GITHUB_OUTPUT (of terms: policy, policy-sha256, suite, preregistration, preregistration-key, preregistration-key-id, self-test; of fetch:
# code; of run: verdict, policy, policy-sha256, suite-sha256, report, report-sha256, folder, artifact),
# GITHUB_STEP_SUMMARY, annotations.
set -euo pipefail
export PYTHONSAFEPATH=1 # no module is taken from the workspace: a pull request could bring its own pickle.py

SUMMARY_BYTES=1000000 # GitHub drops a step's summary that is larger than 1 MiB
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd) # the repository of this script: what is installed
LOCKS=$SOURCE/.github/actions/robustness-gate
# Policy and suite are files of the calling repository: to the gate a bare name would mean one that it ships.
[[ ! ${GATE_POLICY:-} =~ ^[A-Za-z0-9_-]+$ ]] || GATE_POLICY=./$GATE_POLICY
[[ ! ${GATE_SUITE:-} =~ ^[A-Za-z0-9_-]+$ ]] || GATE_SUITE=./$GATE_SUITE

output() { printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"; } # no value below can hold a line break

# annotate TITLE REASON: an error on the run's page; at its line where the reason begins with file:line:column.
annotate() {
    local title=$1 reason=$2 place=
    if [[ $reason =~ ^([^:]+):([0-9]+):([0-9]+):\ (.*)$ ]]; then
        place="file=$(property "${BASH_REMATCH[1]}"),line=${BASH_REMATCH[2]},col=${BASH_REMATCH[3]},"
        reason=${BASH_REMATCH[4]}
    fi
    printf '::error %stitle=%s::%s\n' "$place" "$(property "$title")" "$(message "$reason")"
}

# GitHub's escapes: without them a file name could end the property, or a reason begin another command.
message() {
    local text=${1//'%'/'%25'}
    text=${text//$'\r'/'%0D'}
    printf '%s' "${text//$'\n'/'%0A'}"
}
property() {
    local text
    text=$(message "$1")
    text=${text//:/'%3A'}
    printf '%s' "${text//,/'%2C'}"
}

# attempt LOG COMMAND...: run it with its output shown and kept; returns its exit code.
# Meanwhile the runner obeys no `::command::`: what is printed may quote a policy that somebody else wrote.
attempt() {
    local log=$1 token code
    shift
    token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    printf '::stop-commands::%s\n' "$token"
    set +e
    "$@" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    set -e
    printf '::%s::\n' "$token"
    return "$code"
}

# reason_in LOG CODE: the gate's `error: ...` or `error[code]: ...`, typer's `Error: ...`, else the last line of a traceback.
reason_in() {
    local line
    line=$(grep -iEm1 '^error(\[[a-z0-9-]+\])?: ' "$1" || grep -v '^[[:space:]]*$' "$1" | tail -n 1 || true)
    if [[ $line =~ ^[Ee]rror(\[[a-z0-9-]+\])?:\  ]]; then line=${line#"${BASH_REMATCH[0]}"}; fi
    line=${line:-it said nothing}
    if (($2 > 128)); then line="killed by signal $(($2 - 128)); its last line: $line"; fi
    printf '%s' "$line"
}

guard() {
    # A list of what is let in: an event that GitHub invents tomorrow is refused until somebody has thought about it.
    case $GITHUB_EVENT_NAME in
        push | workflow_dispatch | schedule | repository_dispatch | release | merge_group) return ;;
        pull_request) if [[ ${HEAD_REPOSITORY:-} == "$GITHUB_REPOSITORY" ]]; then return; fi ;;
    esac
    annotate REFUSED "The event '$GITHUB_EVENT_NAME' may carry a stranger's files; the GPU runner is not for them."
    exit 2
}

install() {
    local name python=
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            python=$name
            break
        fi
    done
    if [[ -z $python ]]; then
        annotate ERROR "This runner has no Python 3.11 or newer."
        exit 2
    fi
    "$python" -m venv --clear "$GATE_VENV"
    local pip=("$GATE_VENV/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" --require-hashes --only-binary :all: --requirement "$LOCKS/${GATE_EXTRA:-core}.lock"
    # What builds the gate itself is among them: here nothing more is fetched.
    "${pip[@]}" --no-index --no-deps --no-build-isolation "$SOURCE" "$SOURCE/organisms"
}

refuse() {
    annotate REFUSED "$1"
    exit 2
}

# inside PATH FOLDER: whether PATH lies in FOLDER, however it is written.
inside() { case $(realpath -m -- "$1")/ in "$(realpath -m -- "$2")"/*) ;; *) return 1 ;; esac; }

in_git() { git -c safe.directory='*' -C "${GITHUB_WORKSPACE:-$PWD}" "$@"; }

# merged_onto: the commit onto which GitHub would put what is not merged yet; nothing where all is merged. Of a pull
# request it is the first parent of GitHub's own trial merge, whose second is the head that the event names: neither can
# be chosen by the author of the pull request.
merged_onto() {
    local first second
    case $GITHUB_EVENT_NAME in
        pull_request)
            first=$(in_git rev-parse --verify --quiet "$GITHUB_SHA^1^{commit}" || true)
            second=$(in_git rev-parse --verify --quiet "$GITHUB_SHA^2^{commit}" || true)
            [[ -n $first && -n $second && $second == "${HEAD_SHA:-}" ]] || return 1
            ;;
        merge_group)
            first=$(in_git rev-parse --verify --quiet "${GROUP_BASE_SHA:-none}^{commit}" || true)
            [[ -n $first ]] || return 1
            ;;
        *) return ;;
    esac
    printf '%s' "$first"
}

# agreed PATH TREE: the file of this name in TREE, for one of the workspace; one on the runner's own disk stays what it is.
agreed() {
    local path=$1 workspace
    workspace=$(realpath -ms -- "${GITHUB_WORKSPACE:-$PWD}")
    [[ $path == /* ]] || path=$workspace/$path
    path=$(realpath -ms -- "$path")
    if [[ $path == "$workspace"/* ]]; then
        path=$2/${path#"$workspace"/}
        [[ -f $path ]] || refuse "The branch that this goes to has no '$1'. Merge policy, suite, preregistration and key before what is held to them: a change cannot bring its own."
    elif inside "$1" "$workspace"; then
        refuse "'$1' leads into the workspace by a way round. Name it from the workspace's root."
    fi
    printf '%s' "$path"
}

terms() {
    local base tree name path log=$RUNNER_TEMP/policy-diff.log code=0 gate=$GATE_VENV/bin/robustness-gate
    local -A given=([policy]=$GATE_POLICY [suite]=$GATE_SUITE [preregistration]=${GATE_PREREGISTRATION:-} [preregistration-key]=${GATE_PREREGISTRATION_KEY:-})
    case ${GATE_SELF_TEST:-off} in off | auto) ;; *) given[self-test]=$GATE_SELF_TEST ;; esac # a path: someone's word
    for name in "${!given[@]}"; do
        [[ ${given[$name]} != *[[:cntrl:]]* ]] || refuse "The input '$name' holds a line break."
    done
    base=$(merged_onto) ||
        refuse "What this would be merged onto is not here, so it is not known whose policy this is. Check out the event's own commit (the default of actions/checkout) with \`fetch-depth: 0\`."
    if [[ -n $base ]]; then
        tree=$RUNNER_TEMP/robustness-gate-base
        rm -rf -- "$tree" && mkdir -p -- "$tree"
        in_git archive --format=tar "$base" | tar -xf - --no-same-owner -C "$tree"
        for name in "${!given[@]}"; do
            [[ -n ${given[$name]} ]] || continue
            path=$(agreed "${given[$name]}" "$tree") || { printf '%s\n' "$path" && exit 2; }
            cmp -s -- "$path" "${given[$name]}" ||
                printf '::notice title=Not yet agreed::%s\n' "$(message "'${given[$name]}' is another one on the branch that this goes to; that one counts here.")"
            if [[ $name == policy ]] && ! cmp -s -- "$path" "${given[policy]}"; then
                attempt "$log" "$gate" policy diff --require-reason -- "$path" "${given[policy]}" || code=$?
            fi
            given[$name]=$path
        done
        if [[ $code != 0 ]]; then
            annotate REFUSED "$(reason_in "$log" "$code")"
            exit 2
        fi
    fi
    local wanted=${ROBUSTNESS_GATE_POLICY_SHA256:-${GATE_POLICY_SHA256:-}} found='' key=''
    [[ ! -f ${given[policy]} ]] || found=$(sha256sum <"${given[policy]}" | cut -d ' ' -f 1)
    [[ -z $wanted || $wanted == "$found" ]] ||
        refuse "'$GATE_POLICY' is not the policy that policy-sha256 names: it is ${found:-not there}, $wanted is asked for."
    wanted=${ROBUSTNESS_GATE_PREREGISTRATION_KEY_ID:-${GATE_PREREGISTRATION_KEY_ID:-}}
    if [[ -n ${given[preregistration-key]} ]]; then
        key=$("$gate" keys show -- "${given[preregistration-key]}" 2>/dev/null </dev/null | sed -n 's/^key id: //p' || true)
        [[ -n $key ]] || refuse "'$GATE_PREREGISTRATION_KEY' is no public key."
    fi
    if [[ -n $wanted ]]; then
        [[ -n ${given[preregistration]} && -n $key ]] || refuse "preregistration-key-id names a key, and there is no preregistration with its key: give 'preregistration' and 'preregistration-key'."
        [[ $wanted == "$key" ]] || refuse "'$GATE_PREREGISTRATION_KEY' is not the key that preregistration-key-id names: it is $key, $wanted is asked for."
    fi
    for name in "${!given[@]}"; do output "$name" "${given[$name]}"; done
    [[ -v given[self-test] ]] || output self-test "${GATE_SELF_TEST:-off}"
    output policy-sha256 "$found"
    output preregistration-key-id "$wanted"
}

check() {
    local log=$RUNNER_TEMP/policy-check.log code=0
    attempt "$log" "$GATE_VENV/bin/robustness-gate" policy check --suite "$GATE_SUITE" -- "$GATE_POLICY" || code=$?
    [[ $code == 0 ]] || annotate ERROR "$(reason_in "$log" "$code")"
    exit "$code"
}

# lasting FOLDER: whether what is written there can meet the next job. The work folder and the temporary one cannot.
lasting() {
    local passing
    [[ $1 == /* ]] || return 1
    for passing in "$PWD" "${GITHUB_WORKSPACE:-$PWD}" "$RUNNER_TEMP"; do
        if inside "$1" "$passing"; then return 1; fi
    done
}

# on_the_hub PLACE...: whether one of them is, or may stand on something that is: an adapter's own config names its base.
on_the_hub() {
    local place
    for place in "$@"; do
        if [[ $place == hf:* ]] || [[ -n $place && -e $place/adapter_config.json ]]; then return; fi
    done
    return 1
}

# self_test LEDGERS OUT LOG GATE: leave in OUT what shows that the required attacks work, if the policy asks for it. One
# that all passed is kept in LEDGERS, by what it rests on (policy, suite, this gate, the versions installed), and used again
# for as long as the policy lets it count: the gate looks at the date and the architecture.
self_test() {
    local out=$2 log=$3 gate=$4 kept='' part code=0
    if [[ -n $1 ]]; then
        kept=$1/self-tests/$({
            cat -- "$LOCKS/run.lock" "$GATE_POLICY" "$GATE_SUITE" 2>/dev/null # the gate has words for a policy that is not there
            find "$SOURCE/robustness_gate" "$SOURCE/organisms" -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 cat --
        } | sha256sum | cut -d ' ' -f 1).json
        [[ ! -f $kept ]] || cp -- "$kept" "$out"
    fi
    attempt "$log" "$gate" self-test --if-needed --policy="$GATE_POLICY" --suite="$GATE_SUITE" --checkpoint="$GATE_CHECKPOINT" \
        ${GATE_BASE:+"--base=$GATE_BASE"} --out="$out" || code=$?
    if [[ $code == 0 && -n $kept && -f $out ]]; then # moved into place, so that no other job finds half of it
        { mkdir -p -- "${kept%/*}" && part=$(mktemp "$kept.XXXXXX") && cp -- "$out" "$part" && mv -f -- "$part" "$kept"; } ||
            printf '::warning title=Self-test not kept::%s\n' "The next job makes it again."
    fi
    # None can be made (an attack or an architecture without an organism), or the policy is broken, which the run says at
    # its line: a model that FAILs must not hide behind an instrument that cannot be tested.
    if [[ $code == 2 ]]; then
        printf '::warning title=No self-test::%s\n' "$(message "$(reason_in "$log" "$code") No PASS is possible.")"
        code=0
    fi
    [[ $code != 4 ]] || code=0 # an attack failed: the records say which, and the judge says what follows
    return "$code"
}

# models: the options that name what is examined beside the candidate, into `named`; the controls into `controls`.
# Split at spaces and line breaks, and nothing else happens to them. `read` calls the end of the text a failure.
models() {
    named=()
    read -rd '' -a controls <<<"${GATE_CONTROLS:-}" || true
    [[ -z ${GATE_BASE:-} ]] || named+=("--base=$GATE_BASE")
    [[ -z ${GATE_ORIGINAL:-} ]] || named+=("--original=$GATE_ORIGINAL")
    named+=("${controls[@]/#/--control=}")
}

FETCHED=$RUNNER_TEMP/robustness-gate-fetch.log

# Planning fetches what is on the hub into the cache, with network and token; no other step has the token. How it ended
# goes to `run`, which tells it where a verdict is looked for.
fetch() {
    local code=0 named controls
    models
    if on_the_hub "$GATE_CHECKPOINT" "${GATE_BASE:-}" "${GATE_ORIGINAL:-}" "${controls[@]#*=}" ||
        grep -q 'hf-dataset:' -- "$GATE_SUITE" 2>/dev/null; then
        attempt "$FETCHED" "$GATE_VENV/bin/robustness-gate" plan --policy "$GATE_POLICY" --suite "$GATE_SUITE" "${named[@]}" \
            -- "$GATE_CHECKPOINT" || code=$?
    fi
    output code "$code"
}

# What a report says, on two lines: verdict, key of the preregistration, digests of policy and suite, reason; the policy's name.
READ_REPORT='
import json, sys
def line(*words): print(*" ".join(map(str, words)).split())
r = json.load(open(sys.argv[1], encoding="utf-8"))
v, p, s, preregistration = r["verdict"], r["policy"], r["suite"], r.get("preregistration") or {}
line(v["outcome"], preregistration.get("key", "-"), p["sha256"], s["sha256"], r["reason"])
line(p["id"], p["version"])
'

run() {
    local told id out log report code=0 verdict reason found sum='' policy='' policy_sum='' suite_sum='' key=''
    id=$(printf '%s\0' "$GATE_CHECKPOINT" "$GATE_POLICY" "$GATE_SUITE" "${GATE_ONLY:-}" ${GATE_BASE:+"$GATE_BASE"} \
        ${GATE_ORIGINAL:+"original $GATE_ORIGINAL"} ${GATE_CONTROLS:+"controls $GATE_CONTROLS"} \
        ${GATE_ANCHORS:+"anchors $GATE_ANCHORS"} ${GATE_STATEMENT:+"statement $GATE_STATEMENT"} \
        ${GATE_PREREGISTRATION:+"preregistration $GATE_PREREGISTRATION"} | sha256sum | cut -c 1-12)
    out=$RUNNER_TEMP/robustness-gate/$id log=$RUNNER_TEMP/robustness-gate-$id.log report=$out/report.json
    mkdir -p "$out"
    # Written now and overruled below, so that a step which is killed leaves no verdict but this one.
    output verdict ERROR
    output folder "$out"
    output artifact "robustness-gate-$id-${GITHUB_RUN_ATTEMPT:-1}"

    local only controls anchors named ledgers=() tested='' command gate=$GATE_VENV/bin/robustness-gate
    models
    read -rd '' -a only <<<"${GATE_ONLY:-}" || true
    read -rd '' -a anchors <<<"${GATE_ANCHORS:-}" || true
    # The runner's own setting goes first: who may call the gate may not choose where it forgets.
    local where=${ROBUSTNESS_GATE_LEDGERS:-${GATE_LEDGERS:-}}
    if [[ -z $where ]]; then
        printf '::warning title=No ledgers::%s\n' "What earlier jobs found does not count here: docs/ci.md, Ledgers."
    elif lasting "$where"; then
        ledgers=("--ledgers=$where")
    else
        printf 'error: ledgers: %s\n' "name an absolute path outside the workspace and RUNNER_TEMP, which are emptied" >"$log"
        code=2
    fi
    if [[ $code == 0 && ${GATE_FETCHED:-} != 0 ]]; then
        code=${GATE_FETCHED:-1}
        if [[ -f $FETCHED ]]; then log=$FETCHED; else printf 'error: the step before this one did not end\n' >"$log"; fi
    fi
    if [[ $code == 0 && -z ${GATE_POLICY_SHA256:-} && -f $GATE_POLICY ]]; then
        printf 'error: it is not known under which policy this run is made: the step `terms` did not end\n' >"$log"
        code=2
    fi
    unset HF_TOKEN HUGGING_FACE_HUB_TOKEN # of the runner's own: the attacks need no credential, and no network
    export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_IMPLICIT_TOKEN=1
    case ${GATE_SELF_TEST:-off} in
        off) ;;
        auto)
            tested=$out/self-test.json
            [[ $code != 0 ]] || self_test "$where" "$tested" "$log" "$gate" || code=$?
            [[ -f $tested ]] || tested=''
            ;;
        *) tested=$GATE_SELF_TEST ;;
    esac
    if [[ $code == 0 ]]; then
        command=("$gate" run --policy "$GATE_POLICY" --suite "$GATE_SUITE" --out "$out")
        command+=(--device "${GATE_DEVICE:-auto}" "${named[@]}" "${ledgers[@]}" "${only[@]/#/--only=}" "${anchors[@]/#/--anchor=}")
        command+=(--workers="${GATE_WORKERS:-0}" ${tested:+"--self-test=$tested"})
        command+=(${GATE_STATEMENT:+"--statement=$GATE_STATEMENT"})
        command+=(${GATE_PREREGISTRATION:+"--preregistration=$GATE_PREREGISTRATION"} ${GATE_PREREGISTRATION_KEY:+"--preregistration-key=$GATE_PREREGISTRATION_KEY"})
        [[ -n ${MLFLOW_TRACKING_URI:-} ]] || command+=(--no-mlflow) # a store on a runner that goes away is of no use
        attempt "$log" "${command[@]}" -- "$GATE_CHECKPOINT" || code=$?
    fi

    case $code in
        0) verdict=PASS ;;
        3) verdict=FAIL ;;
        4) verdict=INCONCLUSIVE ;;
        *) verdict=ERROR ;;
    esac
    if [[ $verdict == ERROR ]]; then
        reason=$(reason_in "$log" "$code")
    else
        # The exit code and the report must say the same: a verdict without its evidence is none. So must the report and
        # what the run was to be held to.
        mapfile -t told < <("$GATE_VENV/bin/python" -c "$READ_REPORT" "$report" 2>/dev/null)
        read -r found key policy_sum suite_sum reason <<<"${told[0]:-}"
        policy=${told[1]:-}
        if [[ $found != "$verdict" ]]; then
            reason="the exit code $code says $verdict, the report says $found: neither is believed"
            verdict=ERROR code=1
        elif [[ $policy_sum != "$GATE_POLICY_SHA256" ]]; then
            reason="the report is on the policy $policy_sum, and $GATE_POLICY_SHA256 was to be held: it is not believed"
            verdict=ERROR code=1
        elif [[ -n ${GATE_PREREGISTRATION_KEY_ID:-} && $key != "$GATE_PREREGISTRATION_KEY_ID" ]]; then
            reason="the report names no preregistration of the key $GATE_PREREGISTRATION_KEY_ID, under which the run was to be made"
            verdict=ERROR code=1
        else
            sum=$(sha256sum "$report" | cut -d ' ' -f 1)
        fi
    fi
    reason=${reason%"${reason##*[![:space:]]}"}

    output verdict "$verdict"
    output report "$report"
    output report-sha256 "$sum"
    if [[ -n $sum ]]; then
        output policy "$policy"
        output policy-sha256 "$policy_sum"
        output suite-sha256 "$suite_sum"
    fi
    {
        if [[ -n $sum ]]; then
            head -c "$SUMMARY_BYTES" "$out/report.md"
            # shellcheck disable=SC2016 # these are Markdown's backticks
            printf '\n---\n\nExit code %s. Artifact `%s`; SHA-256 of its report.json: `%s`\n' \
                "$code" "robustness-gate-$id-${GITHUB_RUN_ATTEMPT:-1}" "$sum"
        else
            printf '# ERROR\n\n**%s**\n\n' "$reason"
            printf 'Exit code %s. Nothing was certified, and nothing was disproved.\n' "$code"
        fi
    } >>"$GITHUB_STEP_SUMMARY"
    [[ $verdict == PASS ]] || annotate "$verdict (exit code $code)" "$reason"
    exit "$code"
}

case ${1:-} in
    guard | install | terms | check | fetch | run) "$1" ;;
    *)
        echo "usage: gate.sh guard|install|terms|check|fetch|run" >&2
        exit 2
        ;;
esac
