# Data stays in its region and in its account: the outer limit of every role that a pod can take, and, where
# there is an organization, a rule that not even an administrator of the account gets around.

locals {
  # Services that exist once for all regions; their calls name us-east-1.
  global = [
    "cloudfront:*", "globalaccelerator:*", "health:*", "iam:*", "organizations:*", "pricing:GetProducts",
    "route53:*", "sts:GetCallerIdentity", "support:*",
  ]

  region_only = {
    Sid       = "OnlyInTheRegion"
    Effect    = "Deny"
    NotAction = local.global
    Resource  = "*"
    Condition = { StringNotEquals = { "aws:RequestedRegion" = var.where.region } }
  }

  # No copy leaves the region by a service's own means either.
  no_copies = {
    Sid    = "NoCopiesElsewhere"
    Effect = "Deny"
    Action = [
      "ec2:CopyImage", "ec2:CopySnapshot", "ec2:ModifySnapshotAttribute", "kms:ReplicateKey",
      "rds:ModifyDBSnapshotAttribute", "rds:StartDBInstanceAutomatedBackupsReplication",
      "s3:PutReplicationConfiguration", "secretsmanager:ReplicateSecretToRegions",
    ]
    Resource = "*"
  }
}

resource "aws_iam_policy" "boundary" {
  # checkov:skip=CKV_AWS_62: A permissions boundary grants nothing; it allows all so that its refusals alone decide.
  # checkov:skip=CKV_AWS_63: As above.
  # checkov:skip=CKV_AWS_286: As above.
  # checkov:skip=CKV_AWS_287: As above.
  # checkov:skip=CKV_AWS_288: As above.
  # checkov:skip=CKV_AWS_289: As above.
  # checkov:skip=CKV_AWS_290: As above.
  # checkov:skip=CKV_AWS_355: As above.
  # checkov:skip=CKV2_AWS_40: As above.
  name        = "${var.name}-boundary"
  description = "The outer limit of what pods may do: ${var.where.region} only, and data of this account only"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "WhateverTheRoleItselfAllows", Effect = "Allow", Action = "*", Resource = "*" },
      local.region_only,
      local.no_copies,
      {
        Sid       = "OnlyDataOfThisAccount"
        Effect    = "Deny"
        Action    = ["kms:*", "s3:*", "secretsmanager:*", "sqs:*"]
        Resource  = "*"
        Condition = { StringNotEquals = { "aws:ResourceAccount" = var.where.account } }
      },
      {
        Sid      = "NoWayAroundThis"
        Effect   = "Deny"
        Action   = ["iam:CreatePolicyVersion", "iam:DeleteRolePermissionsBoundary", "iam:PutRolePermissionsBoundary", "iam:SetDefaultPolicyVersion"]
        Resource = "*"
      },
    ]
  })
}

resource "aws_organizations_policy" "region" {
  count = var.organization_target_id == null ? 0 : 1

  name        = "${var.name}-residency"
  description = "Only ${var.where.region}"
  type        = "SERVICE_CONTROL_POLICY"
  content     = jsonencode({ Version = "2012-10-17", Statement = [local.region_only, local.no_copies] })
}

resource "aws_organizations_policy_attachment" "region" {
  count = var.organization_target_id == null ? 0 : 1

  policy_id = aws_organizations_policy.region[0].id
  target_id = var.organization_target_id
}
