# Residency and least privilege: what pods may do at all, and what each of them may do.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name  = "interpretops"
  where = { partition = "aws", account = "111122223333", region = "ap-southeast-2" }
}

run "residency" {
  command = apply
  module {
    source = "./modules/residency"
  }
  variables {
    organization_target_id = "ou-abcd-12345678"
  }

  assert {
    condition = one([
      for statement in jsondecode(aws_iam_policy.boundary.policy).Statement : statement.Condition.StringNotEquals["aws:RequestedRegion"]
      if statement.Sid == "OnlyInTheRegion"
    ]) == "ap-southeast-2"
    error_message = "every other region is refused"
  }
  assert {
    condition = length([
      for statement in jsondecode(aws_iam_policy.boundary.policy).Statement : statement
      if statement.Sid == "OnlyDataOfThisAccount" ? contains(statement.Action, "s3:*") : false
    ]) == 1
    error_message = "no pod writes to another account's bucket"
  }
  assert {
    condition = !anytrue([
      for action in flatten([for statement in jsondecode(aws_iam_policy.boundary.policy).Statement : try(statement.NotAction, [])]) :
      startswith(action, "s3:") || startswith(action, "kms:") || startswith(action, "secretsmanager:") || action == "*"
    ])
    error_message = "no service that holds data is exempt"
  }
  assert {
    condition     = length(jsondecode(aws_organizations_policy.region[0].content).Statement) == 2
    error_message = "an organization holds it against administrators too"
  }
}

run "access" {
  command = apply
  module {
    source = "./modules/access"
  }
  variables {
    namespace         = "interpretops"
    release           = "interpretops"
    cluster_name      = "interpretops"
    cluster_arn       = "arn:aws:eks:ap-southeast-2:111122223333:cluster/interpretops"
    oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.ap-southeast-2.amazonaws.com/id/MOCKED"
    boundary_arn      = "arn:aws:iam::111122223333:policy/boundary"
    bucket_arns       = { artifacts = "arn:aws:s3:::artifacts", anchors = "arn:aws:s3:::anchors" }
    data_key_arn      = "arn:aws:kms:ap-southeast-2:111122223333:key/data"
    tenants_key_arn   = "arn:aws:kms:ap-southeast-2:111122223333:key/tenants"
    secret_arn        = "arn:aws:secretsmanager:ap-southeast-2:111122223333:secret:platform"
    secrets_key_arn   = "arn:aws:kms:ap-southeast-2:111122223333:key/secrets"
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.this : role.permissions_boundary == var.boundary_arn])
    error_message = "the region policy bounds every role"
  }
  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.this : [
        for statement in jsondecode(policy.policy).Statement :
        !contains(flatten([statement.Resource]), "*") && alltrue([for action in flatten([statement.Action]) : !endswith(action, "*")])
      ]
    ]))
    error_message = "no role has a star for an action or for a resource"
  }
  assert {
    condition = toset([
      for name, policy in aws_iam_role_policy.this : name
      if strcontains(policy.policy, "s3:DeleteObject")
    ]) == toset(["keeper"])
    error_message = "only retention deletes"
  }
  assert {
    condition = toset([
      for name, policy in aws_iam_role_policy.this : name
      if anytrue([for statement in jsondecode(policy.policy).Statement : contains(statement.Action, "s3:PutObject") && contains(statement.Resource, "arn:aws:s3:::anchors/audit-anchors/*")])
    ]) == toset(["keeper"])
    error_message = "only the keeper notes anchors"
  }
  assert {
    condition = !anytrue([
      for policy in aws_iam_role_policy.this : strcontains(policy.policy, "BypassGovernanceRetention") || strcontains(policy.policy, "s3:DeleteObjectVersion")
    ])
    error_message = "nobody deletes a version"
  }
  assert {
    condition = toset([
      for name, policy in aws_iam_role_policy.this : name if strcontains(policy.policy, "key/tenants")
    ]) == toset(["edge", "worker", "steering-gateway", "keeper"])
    error_message = "only what reads objects of tenants unwraps their keys"
  }
  assert {
    condition = alltrue([
      for name, association in aws_eks_pod_identity_association.this :
      association.service_account == (name == "external-secrets" ? "external-secrets" : "interpretops-${name}")
    ])
    error_message = "roles go to the chart's service accounts"
  }
}
