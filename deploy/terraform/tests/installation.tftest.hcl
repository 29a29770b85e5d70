# The whole, wired together: what each part needs of the others is there.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  admin_role_arns = ["arn:aws:iam::111122223333:role/platform-admin"]
  broker_token    = "0123456789abcdef0123456789abcdef"
}

run "everything_is_made" {
  command = apply

  assert {
    condition     = toset(keys(output.role_arns)) == toset(["edge", "worker", "steering-gateway", "keeper", "external-secrets"])
    error_message = "a role for each service account that needs AWS, and for no other"
  }
  assert {
    condition     = output.registry == "111122223333.dkr.ecr.ap-southeast-2.amazonaws.com/interpretops/"
    error_message = "images are in this account's registry in Sydney"
  }
  assert {
    condition     = output.buckets.anchors == "interpretops-audit-anchors-111122223333"
    error_message = "the bucket of anchors has its name"
  }
}

run "another_region_is_refused" {
  command = plan
  variables {
    region = "us-east-1"
  }
  expect_failures = [var.region]
}

run "an_open_kubernetes_api_is_refused" {
  command = plan
  variables {
    api_access_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.api_access_cidrs]
}

run "a_cluster_nobody_can_enter_is_refused" {
  command = plan
  variables {
    admin_role_arns = []
  }
  expect_failures = [var.admin_role_arns]
}

run "a_weak_broker_token_is_refused" {
  command = plan
  variables {
    broker_token = "secret"
  }
  expect_failures = [var.broker_token]
}
