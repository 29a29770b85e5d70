# The other fence of residency, at the buckets: only by TLS, only under our key, and what is in them is read
# and written from inside the network, whatever an identity's own policy allows.

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyByTLS"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "OnlyFromTheNetwork"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["s3:DeleteObject*", "s3:GetObject*", "s3:PutObject*"]
        Resource  = "${aws_s3_bucket.this.arn}/*"
        Condition = merge(
          {
            StringNotEqualsIfExists = { "aws:SourceVpce" = var.endpoint_id }
            BoolIfExists            = { "aws:PrincipalIsAWSService" = "false" }
          },
          length(var.break_glass_role_arns) == 0 ? {} : {
            ArnNotEquals = { "aws:PrincipalArn" = var.break_glass_role_arns }
          },
        )
      },
      {
        Sid       = "OnlyUnderOurKey"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.this.arn}/*"
        Condition = {
          StringNotEqualsIfExists = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = var.key_arn }
          Null                    = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
        }
      },
      {
        Sid       = "OnlyUnderSomeKeyOfKMS"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.this.arn}/*"
        Condition = {
          StringNotEquals = { "s3:x-amz-server-side-encryption" = "aws:kms" }
          Null            = { "s3:x-amz-server-side-encryption" = "false" }
        }
      },
    ]
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}
