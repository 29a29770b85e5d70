# Buckets: nothing public, everything under our key, read and written from inside the network only.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  bucket                = "interpretops-artifacts-111122223333"
  key_arn               = "arn:aws:kms:ap-southeast-2:111122223333:key/data"
  access_log_bucket     = "logs"
  endpoint_id           = "vpce-1"
  break_glass_role_arns = []
  noncurrent_days       = 14
}

run "a_bucket_of_data" {
  command = apply
  module {
    source = "./modules/bucket"
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "nothing is public"
  }
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).kms_master_key_id == var.key_arn
    error_message = "what is at rest is under our key"
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Effect == "Deny"
    ])
    error_message = "the bucket's policy grants nothing"
  }
  assert {
    condition = one([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Condition.StringNotEqualsIfExists["aws:SourceVpce"]
      if statement.Sid == "OnlyFromTheNetwork"
    ]) == "vpce-1"
    error_message = "objects are read and written through the network's own endpoint"
  }
  assert {
    condition     = length(aws_s3_bucket_object_lock_configuration.this) == 0 && !aws_s3_bucket.this.object_lock_enabled
    error_message = "retention can delete artifacts"
  }
}

run "the_bucket_of_anchors" {
  command = apply
  module {
    source = "./modules/bucket"
  }
  variables {
    lock_days = 2557
  }

  assert {
    condition     = aws_s3_bucket.this.object_lock_enabled && one(one(aws_s3_bucket_object_lock_configuration.this[0].rule).default_retention).mode == "COMPLIANCE"
    error_message = "nobody deletes an anchor before its time"
  }
  assert {
    condition     = one(one(aws_s3_bucket_object_lock_configuration.this[0].rule).default_retention).days == 2557
    error_message = "that time is seven years"
  }
}
