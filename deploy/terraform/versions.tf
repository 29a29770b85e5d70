terraform {
  required_version = ">= 1.11" # write-only arguments keep passwords out of the state

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.95, < 6.0"
    }
  }

  # Name the bucket at `terraform init -backend-config=backend.hcl`; README.md shows the file.
  backend "s3" {}
}

provider "aws" {
  region              = var.region
  allowed_account_ids = var.account_id == null ? null : [var.account_id]

  default_tags {
    tags = merge({ "app.kubernetes.io/part-of" = "interpretops", "managed-by" = "terraform" }, var.tags)
  }
}
