# Ways to AWS that stay inside the network. Their policies are one of the two fences of residency: through
# them, only this account's principals reach only this account's resources.

locals {
  own = {
    Effect    = "Allow"
    Principal = "*"
    Action    = "*"
    Resource  = "*"
    Condition = {
      StringEquals = {
        "aws:PrincipalAccount" = var.where.account
        "aws:ResourceAccount"  = var.where.account
      }
    }
  }
  # EKS add-ons are pulled from registries of AWS itself.
  pull = {
    Effect    = "Allow"
    Principal = "*"
    Action = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetAuthorizationToken",
      "ecr:GetDownloadUrlForLayer",
    ]
    Resource  = "*"
    Condition = { StringEquals = { "aws:PrincipalAccount" = var.where.account } }
  }
  # A pod that trades its token for a role has no account yet.
  federate = {
    Effect    = "Allow"
    Principal = "*"
    Action    = "sts:AssumeRoleWithWebIdentity"
    Resource  = "arn:${var.where.partition}:iam::${var.where.account}:role/*"
  }
  # Where ECR keeps the layers of images, and nothing else.
  layers = {
    Effect    = "Allow"
    Principal = "*"
    Action    = "s3:GetObject"
    Resource  = "arn:${var.where.partition}:s3:::prod-${var.where.region}-starport-layer-bucket/*"
  }

  endpoints = {
    "ecr.api"  = [local.pull, local.own]
    "ecr.dkr"  = [local.pull, local.own]
    "eks"      = [local.own]
    "eks-auth" = [local.own]
    "kms"      = [local.own]
    "logs"     = [local.own]
    # Not the free gateway: network policies let pods speak to addresses of the network only, and this has some.
    "s3"             = [local.layers, local.own]
    "secretsmanager" = [local.own]
    "sqs"            = [local.own]
    "sts"            = [local.federate, local.own]
  }
}

resource "aws_security_group" "endpoints" {
  name        = "${var.name}-endpoints"
  description = "TLS from the network to the endpoints of AWS"
  vpc_id      = aws_vpc.this.id

  ingress {
    description = "TLS from the network"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = [var.cidr]
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.endpoints

  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${var.where.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for subnet in aws_subnet.pods : subnet.id]
  security_group_ids  = [aws_security_group.endpoints.id]
  # S3's would otherwise answer to resolvers outside the network only.
  dynamic "dns_options" {
    for_each = each.key == "s3" ? [1] : []
    content {
      private_dns_only_for_inbound_resolver_endpoint = false
    }
  }
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value })
  tags   = { Name = "${var.name}-${each.key}" }
}
