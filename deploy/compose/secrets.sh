#!/usr/bin/env bash
# Make the secrets of this installation, once; those that are there stay. What is lost here is lost:
# without the master key no object can be read, without the pepper no API key works.
set -euo pipefail
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets

random() { head -c "$1" /dev/urandom | base64 -w 0; }
word() { head -c 24 /dev/urandom | base64 -w 0 | tr -d '+/='; }
keep() { [ -s "$1" ] || printf '%s' "$2" > "$1"; }

for name in pepper master-key identity-keys; do keep "$name" "$(random 32)"; done
for name in postgres-password valkey-password interpretops_objects__access_key \
  interpretops_objects__secret_key interpretops_database__app_password \
  interpretops_database__system_password; do keep "$name" "$(word)"; done

dsn() { printf 'postgresql://%s:%s@postgres:5432/interpretops' "$1" "$(cat "$2")"; }
keep interpretops_database__owner_dsn "$(dsn interpretops postgres-password)"
keep interpretops_database__app_dsn "$(dsn interpretops_app interpretops_database__app_password)"
keep interpretops_database__system_dsn "$(dsn interpretops_system interpretops_database__system_password)"
keep interpretops_redis__url "redis://:$(cat valkey-password)@valkey:6379/0"

# Docker hands files over as they are. Ours are read by the user of our containers, which is this one
# (or, where this one is root, the images' own); those that other images read under users of their own
# are open to all who can pass this folder, which nobody else can.
user=$(id -u)
if [ "$user" = 0 ]; then user=10001 && chown "$user" ./*; fi
chmod 644 postgres-password valkey-password interpretops_objects__*
printf 'INTERPRETOPS_UID=%s\n' "$user" > ../.env
