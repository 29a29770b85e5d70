# What every cluster needs. The first ones are there before any node, the others need nodes to become ready.

locals {
  # Service accounts of add-ons that have a role.
  accounts = {
    vpc-cni                      = "aws-node"
    aws-ebs-csi-driver           = "ebs-csi-controller-sa"
    aws-mountpoint-s3-csi-driver = "s3-csi-driver-sa"
  }
}

resource "aws_eks_addon" "first" {
  for_each = {
    # Network policies are enforced by the CNI itself.
    vpc-cni                = jsonencode({ enableNetworkPolicy = "true" })
    kube-proxy             = null
    eks-pod-identity-agent = null
  }

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  configuration_values        = each.value
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "PRESERVE"

  dynamic "pod_identity_association" {
    for_each = contains(keys(local.accounts), each.key) ? [local.accounts[each.key]] : []
    content {
      role_arn        = aws_iam_role.addon[each.key].arn
      service_account = pod_identity_association.value
    }
  }
}

resource "aws_eks_addon" "later" {
  # The last one mounts the bucket of models, read-only.
  for_each = toset(["coredns", "metrics-server", "aws-ebs-csi-driver", "aws-mountpoint-s3-csi-driver"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "PRESERVE"

  dynamic "pod_identity_association" {
    for_each = contains(keys(local.accounts), each.key) ? [local.accounts[each.key]] : []
    content {
      role_arn        = aws_iam_role.addon[each.key].arn
      service_account = pod_identity_association.value
    }
  }

  depends_on = [aws_eks_node_group.system]
}

resource "aws_iam_role" "addon" {
  for_each = local.accounts

  name                 = "${var.name}-${each.key}"
  permissions_boundary = var.boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })
}

resource "aws_iam_role_policy_attachment" "addon" {
  for_each = {
    vpc-cni            = "AmazonEKS_CNI_Policy"
    aws-ebs-csi-driver = "service-role/AmazonEBSCSIDriverPolicy"
  }

  role       = aws_iam_role.addon[each.key].name
  policy_arn = "arn:${var.where.partition}:iam::aws:policy/${each.value}"
}

resource "aws_iam_role_policy" "ebs_key" {
  name = "volumes-key"
  role = aws_iam_role.addon["aws-ebs-csi-driver"].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"]
        Resource = var.volumes_key_arn
      },
      {
        Effect    = "Allow"
        Action    = "kms:CreateGrant"
        Resource  = var.volumes_key_arn
        Condition = { Bool = { "kms:GrantIsForAWSResource" = "true" } }
      },
    ]
  })
}

resource "aws_iam_role_policy" "models" {
  name = "read-models"
  role = aws_iam_role.addon["aws-mountpoint-s3-csi-driver"].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "s3:ListBucket", Resource = var.models.bucket_arn },
      { Effect = "Allow", Action = "s3:GetObject", Resource = "${var.models.bucket_arn}/*" },
      { Effect = "Allow", Action = "kms:Decrypt", Resource = var.models.key_arn },
    ]
  })
}
