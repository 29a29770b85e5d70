# Three buckets with data (artifacts, anchors of the audit log, models) and the record of who read what. Object keys are content hashes below a tenant's id, sealed by the platform before they get here.

locals {
  names = {
    artifacts = "${var.name}-artifacts-${var.where.account}"
    anchors   = "${var.name}-audit-anchors-${var.where.account}"
    models    = "${var.name}-models-${var.where.account}"
  }
}

module "bucket" {
  source   = "../bucket"
  for_each = local.names

  bucket                = each.value
  key_arn               = var.key_arn
  access_log_bucket     = aws_s3_bucket.access.id
  endpoint_id           = var.endpoint_id
  break_glass_role_arns = var.break_glass_role_arns
  noncurrent_days       = var.noncurrent_days
  lock_days             = each.key == "anchors" ? var.anchor_days : null
}
