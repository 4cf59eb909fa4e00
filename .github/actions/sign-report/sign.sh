#!/usr/bin/env bash
# Sign the report in GATE_FOLDER with ROBUSTNESS_GATE_SIGNING_KEY, if it is the one whose digest is GATE_REPORT_SHA256.
# The battery ran elsewhere, beside a model that somebody else made; what came from there are files, and one of them is
# believed only as far as its own evidence goes: `sign` computes the verdict again and signs nothing that does not follow.
# What goes in are environment variables. What comes out: GITHUB_OUTPUT (bundle, statement-sha256).
set -euo pipefail

refuse() {
    local text=${1//'%'/'%25'}
    text=${text//$'\r'/'%0D'}
    printf '::error title=NOT SIGNED::%s\n' "${text//$'\n'/'%0A'}"
    exit 5
}

[[ -n ${ROBUSTNESS_GATE_SIGNING_KEY:-} ]] || refuse "There is no signing key: give the secret to the job that signs."
[[ -f $GATE_FOLDER/report.json ]] || refuse "There is no report.json in $GATE_FOLDER: the battery left none."
found=$(sha256sum "$GATE_FOLDER/report.json" | cut -d ' ' -f 1)
[[ $found == "$GATE_REPORT_SHA256" ]] ||
    refuse "report.json is not the one that the battery left: it is $found, $GATE_REPORT_SHA256 was announced."
bundle=$GATE_FOLDER/report.sigstore.json
if ! told=$("$GATE_VENV/bin/robustness-gate" sign --out "$bundle" -- "$GATE_FOLDER" 2>&1); then
    refuse "${told##*error: }"
fi
printf '%s\n' "$told"
printf 'bundle=%s\n' "$bundle" >>"$GITHUB_OUTPUT"
printf 'statement-sha256=%s\n' "$(sed -n 's/^sha256 of the signed statement: //p' <<<"$told")" >>"$GITHUB_OUTPUT"
