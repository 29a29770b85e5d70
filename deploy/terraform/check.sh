#!/usr/bin/env bash
# Format, validity and the tests of this folder, without an account: AWS is mocked, nothing is asked of it.
#
#   TERRAFORM_PLUGIN_DIR   a folder with the AWS provider, where the registry cannot be reached
set -euo pipefail
cd "$(dirname "$0")"
command -v terraform > /dev/null || { echo "terraform is not installed: deploy/terraform was not checked"; exit 0; }
terraform fmt -check -diff -recursive

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar --exclude=.terraform -cf - . | tar -xf - -C "$copy"
cd "$copy"
init=(terraform init -backend=false -input=false -no-color)
[ -z "${TERRAFORM_PLUGIN_DIR:-}" ] || init+=("-plugin-dir=$TERRAFORM_PLUGIN_DIR")
if ! "${init[@]}" > init.log 2>&1; then
  cat init.log
  if grep -qE 'could not connect|no available releases|Failed to query available provider' init.log; then
    echo "the AWS provider cannot be had here: deploy/terraform was formatted, not validated nor tested"
    exit 0
  fi
  exit 1
fi
terraform validate -no-color
# The tests run with a double of the one module that mocked providers cannot play.
cp tests/doubles/secrets.tf modules/secrets/main.tf
: > modules/secrets/outputs.tf
"${init[@]}" > init.log
terraform test -no-color
