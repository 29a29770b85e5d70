# What only AWS knows, in the form it has there.

mock_data "aws_caller_identity" {
  defaults = { account_id = "111122223333" }
}
mock_data "aws_partition" {
  defaults = { partition = "aws" }
}
mock_data "aws_availability_zones" {
  defaults = { names = ["ap-southeast-2a", "ap-southeast-2b", "ap-southeast-2c"] }
}
mock_resource "aws_kms_key" {
  defaults = { arn = "arn:aws:kms:ap-southeast-2:111122223333:key/11111111-2222-3333-4444-555555555555", key_id = "11111111-2222-3333-4444-555555555555" }
}
mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::111122223333:role/mocked" }
}
mock_resource "aws_iam_policy" {
  defaults = { arn = "arn:aws:iam::111122223333:policy/mocked" }
}
mock_resource "aws_eks_cluster" {
  defaults = {
    arn        = "arn:aws:eks:ap-southeast-2:111122223333:cluster/interpretops"
    identity   = [{ oidc = [{ issuer = "https://oidc.eks.ap-southeast-2.amazonaws.com/id/MOCKED" }] }]
    vpc_config = { cluster_security_group_id = "sg-0123456789abcdef0" }
  }
}
mock_resource "aws_iam_openid_connect_provider" {
  defaults = { arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.ap-southeast-2.amazonaws.com/id/MOCKED" }
}
mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:ap-southeast-2:111122223333:log-group:mocked" }
}
mock_resource "aws_sqs_queue" {
  defaults = { arn = "arn:aws:sqs:ap-southeast-2:111122223333:mocked", url = "https://sqs.ap-southeast-2.amazonaws.com/111122223333/mocked" }
}
mock_resource "aws_s3_bucket" {
  defaults = { arn = "arn:aws:s3:::mocked" }
}
mock_resource "aws_secretsmanager_secret" {
  defaults = { arn = "arn:aws:secretsmanager:ap-southeast-2:111122223333:secret:mocked", id = "arn:aws:secretsmanager:ap-southeast-2:111122223333:secret:mocked" }
}
mock_resource "aws_ecr_repository" {
  defaults = { repository_url = "111122223333.dkr.ecr.ap-southeast-2.amazonaws.com/interpretops/mocked" }
}
mock_resource "aws_launch_template" {
  defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
}
