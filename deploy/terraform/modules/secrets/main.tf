# What the platform must know and nobody needs to see. It is made at the first apply, goes from an ephemeral
# value straight into Secrets Manager, and stands in no state and no plan. External Secrets brings it into
# the cluster. The key that wraps the data keys of tenants is not among it: that one never leaves KMS.

locals {
  login = "postgresql://%s:%s@${var.database_address}/interpretops?ssl=require"
}

ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = {
    owner         = 40
    app           = 40
    system        = 40
    scaler        = 40
    pepper        = 32 # 32 characters are the 32 bytes that a key file wants
    identity-keys = 32
    session-keys  = 32
  }

  password_length     = each.value
  exclude_punctuation = true # they stand in addresses
}

resource "aws_secretsmanager_secret" "this" {
  # checkov:skip=CKV2_AWS_57: Changed by raising `secrets_revision`: the platform has to be restarted with it, which a timer would not do.
  for_each = {
    database-owner = "Password of the owner of the tables"
    platform       = "Logins and keys of the platform, each under the name of its file"
  }

  name                    = "${var.name}/${each.key}"
  description             = each.value
  kms_key_id              = var.key_arn
  recovery_window_in_days = 30
}

resource "aws_secretsmanager_secret_version" "owner" {
  secret_id                = aws_secretsmanager_secret.this["database-owner"].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this["owner"].random_password
  secret_string_wo_version = var.revision
}

# Read back rather than used twice, so that database and secret agree even if an apply ends between them.
ephemeral "aws_secretsmanager_secret_version" "owner" {
  secret_id = aws_secretsmanager_secret_version.owner.secret_id
}

resource "aws_secretsmanager_secret_version" "platform" {
  secret_id                = aws_secretsmanager_secret.this["platform"].id
  secret_string_wo_version = var.revision

  secret_string_wo = jsonencode({
    pepper                                 = base64encode(ephemeral.aws_secretsmanager_random_password.this["pepper"].random_password)
    identity-keys                          = base64encode(ephemeral.aws_secretsmanager_random_password.this["identity-keys"].random_password)
    session-keys                           = base64encode(ephemeral.aws_secretsmanager_random_password.this["session-keys"].random_password)
    interpretops_database__owner_dsn       = format(local.login, "interpretops", ephemeral.aws_secretsmanager_secret_version.owner.secret_string)
    interpretops_database__app_password    = ephemeral.aws_secretsmanager_random_password.this["app"].random_password
    interpretops_database__system_password = ephemeral.aws_secretsmanager_random_password.this["system"].random_password
    interpretops_database__app_dsn         = format(local.login, "interpretops_app", ephemeral.aws_secretsmanager_random_password.this["app"].random_password)
    interpretops_database__system_dsn      = format(local.login, "interpretops_system", ephemeral.aws_secretsmanager_random_password.this["system"].random_password)
    interpretops_database__scaler_password = ephemeral.aws_secretsmanager_random_password.this["scaler"].random_password
    # KEDA's driver has another word for TLS than ours.
    scaler-dsn              = replace(format(local.login, "interpretops_scaler", ephemeral.aws_secretsmanager_random_password.this["scaler"].random_password), "?ssl=", "?sslmode=")
    interpretops_redis__url = "rediss://:${var.broker_token}@${var.broker_address}/0"
  })
}
