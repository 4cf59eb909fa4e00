#!/usr/bin/env bash
# Sign the report in GATE_FOLDER with ROBUSTNESS_GATE_SIGNING_KEY, if it is the one whose digest is GATE_REPORT_SHA256.
# The battery ran elsewhere, beside a model that somebody else made; what came from there are files, and one of them is
# believed only as far as its own evidence goes: `sign` computes the verdict again and signs nothing that does not follow.
# What goes in are environment variables. What comes out: GITHUB_OUTPUT (bundle, statement-sha256).
set -euo pipefail
export PYTHONSAFEPATH=1 # no module is taken from the workspace: a pull request could bring its own pickle.py

refuse() {
    local text=${1//'%'/'%25'}
    text=${text//$'\r'/'%0D'}
    printf '::error title=NOT SIGNED::%s\n' "${text//$'\n'/'%0A'}"
    exit 5
}

# A list of what is signed for, as the gate's own: what is not merged yet can have brought its own policy, and even its own
# call of this. So can a branch or a tag that anyone with write access may push.
case ${GITHUB_EVENT_NAME:-} in
    push | workflow_dispatch | schedule | repository_dispatch | release) ;;
    *) refuse "For the event '${GITHUB_EVENT_NAME:-}' nothing is signed: its policy may not have been agreed to. Sign what was merged." ;;
esac
[[ ${GITHUB_REF_PROTECTED:-} == true ]] ||
    refuse "'${GITHUB_REF:-}' is not protected, so anyone with write access can have put a policy of their own there. Protect it (docs/ci.md, Whose policy), or sign by hand: robustness-gate sign."
[[ -n ${ROBUSTNESS_GATE_SIGNING_KEY:-} ]] || refuse "There is no signing key: give the secret to the job that signs."
[[ -f $GATE_FOLDER/report.json ]] || refuse "There is no report.json in $GATE_FOLDER: the battery left none."
found=$(sha256sum "$GATE_FOLDER/report.json" | cut -d ' ' -f 1)
[[ $found == "$GATE_REPORT_SHA256" ]] ||
    refuse "report.json is not the one that the battery left: it is $found, $GATE_REPORT_SHA256 was announced."
# The battery's machine has held the report against these already; this one has seen no checkpoint.
read_report='import json, sys; r = json.load(open(sys.argv[1])); print(r["policy"]["sha256"], (r.get("preregistration") or {}).get("key"))'
read -r policy key < <("$GATE_VENV/bin/python" -c "$read_report" "$GATE_FOLDER/report.json" 2>/dev/null) || true
[[ -z ${GATE_POLICY_SHA256:-} || ${policy:-} == "$GATE_POLICY_SHA256" ]] ||
    refuse "The report is on the policy ${policy:-that it does not name}; policy-sha256 names $GATE_POLICY_SHA256."
[[ -z ${GATE_PREREGISTRATION_KEY_ID:-} || ${key:-} == "$GATE_PREREGISTRATION_KEY_ID" ]] ||
    refuse "The report names no preregistration of the key $GATE_PREREGISTRATION_KEY_ID, which preregistration-key-id asks for."
bundle=$GATE_FOLDER/report.sigstore.json
if ! told=$("$GATE_VENV/bin/robustness-gate" sign --out "$bundle" -- "$GATE_FOLDER" 2>&1); then
    refuse "${told##*error: }"
fi
printf '%s\n' "$told"
printf 'bundle=%s\n' "$bundle" >>"$GITHUB_OUTPUT"
printf 'statement-sha256=%s\n' "$(sed -n 's/^sha256 of the signed statement: //p' <<<"$told")" >>"$GITHUB_OUTPUT"
