# Who may do what: one role for each service account that needs AWS at all, by Pod Identity. Services that
# only take in work (tracer, sae-trainer, circuit-search, evaluator, reporter) need nothing, and get nothing.

locals {
  objects = "${var.bucket_arns.artifacts}/*"

  may = {
    list_artifacts   = { actions = ["s3:GetBucketLocation", "s3:ListBucket"], resources = [var.bucket_arns.artifacts] }
    read_artifacts   = { actions = ["s3:GetObject"], resources = [local.objects] }
    write_artifacts  = { actions = ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"], resources = [local.objects] }
    delete_artifacts = { actions = ["s3:DeleteObject"], resources = [local.objects] }
    list_anchors     = { actions = ["s3:ListBucket", "s3:ListBucketVersions"], resources = [var.bucket_arns.anchors] }
    note_anchors     = { actions = ["s3:GetObject", "s3:PutObject"], resources = ["${var.bucket_arns.anchors}/audit-anchors/*"] }
    use_data_key     = { actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.data_key_arn] }
    read_secret      = { actions = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], resources = [var.secret_arn] }
    decrypt_secret   = { actions = ["kms:Decrypt"], resources = [var.secrets_key_arn] }
    unwrap_tenants   = { actions = ["kms:Decrypt"], resources = [var.tenants_key_arn] }
    wrap_tenants     = { actions = ["kms:Encrypt"], resources = [var.tenants_key_arn] }
  }

  services = {
    edge             = ["list_artifacts", "read_artifacts", "use_data_key", "unwrap_tenants"]
    worker           = ["list_artifacts", "read_artifacts", "write_artifacts", "use_data_key", "unwrap_tenants"]
    steering-gateway = ["list_artifacts", "read_artifacts", "write_artifacts", "use_data_key", "unwrap_tenants"]
    # It deletes what has had its time (a HEAD needs the right to read) and notes heads. Tenants are founded in
    # its pod, which wraps their key. The nightly jobs run under its account.
    keeper = ["list_artifacts", "read_artifacts", "delete_artifacts", "list_anchors", "note_anchors", "use_data_key", "wrap_tenants", "unwrap_tenants"]
  }

  accounts = merge(
    { for service, grants in local.services : service => {
      namespace = var.namespace, account = "${var.release}-${service}", grants = grants
    } },
    { external-secrets = {
      namespace = "external-secrets", account = "external-secrets", grants = ["read_secret", "decrypt_secret"]
    } },
  )

}

resource "aws_iam_role" "this" {
  for_each = local.accounts

  name                 = "${var.name}-${each.key}"
  permissions_boundary = var.boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "PodIdentity"
        Effect    = "Allow"
        Principal = { Service = "pods.eks.amazonaws.com" }
        Action    = ["sts:AssumeRole", "sts:TagSession"]
        Condition = {
          StringEquals = {
            "aws:SourceAccount"                         = var.where.account
            "aws:RequestTag/kubernetes-namespace"       = each.value.namespace
            "aws:RequestTag/kubernetes-service-account" = each.value.account
          }
          ArnEquals = { "aws:SourceArn" = var.cluster_arn }
        }
      },
      {
        Sid       = "ServiceAccountToken"
        Effect    = "Allow"
        Principal = { Federated = var.oidc_provider_arn }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = {
            "${local.issuer}:aud" = "sts.amazonaws.com"
            "${local.issuer}:sub" = "system:serviceaccount:${each.value.namespace}:${each.value.account}"
          }
        }
      },
    ]
  })
}

locals {
  issuer = replace(var.oidc_provider_arn, "/^.*oidc-provider//", "")
}

resource "aws_iam_role_policy" "this" {
  for_each = local.accounts

  name = "granted"
  role = aws_iam_role.this[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for grant in each.value.grants : {
      Sid      = replace(title(replace(grant, "_", " ")), " ", "")
      Effect   = "Allow"
      Action   = local.may[grant].actions
      Resource = local.may[grant].resources
    }]
  })
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = local.accounts

  cluster_name    = var.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.account
  role_arn        = aws_iam_role.this[each.key].arn
}
