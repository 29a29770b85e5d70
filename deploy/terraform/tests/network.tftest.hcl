# The network: stores have no way out, and the ways to AWS lead to this account only.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name         = "interpretops"
  cidr         = "10.0.0.0/16"
  zones        = 3
  nat_per_zone = true
  logs_key_arn = "arn:aws:kms:ap-southeast-2:111122223333:key/logs"
  where        = { partition = "aws", account = "111122223333", region = "ap-southeast-2" }
}

run "three_zones" {
  command = apply
  module {
    source = "./modules/network"
  }

  assert {
    condition     = length(aws_subnet.pods) == 3 && length(aws_nat_gateway.exit) == 3
    error_message = "each zone has its subnets and its way out"
  }
  assert {
    condition     = length(distinct(concat([for each in aws_subnet.pods : each.cidr_block], [for each in aws_subnet.public : each.cidr_block], [for each in aws_subnet.stores : each.cidr_block]))) == 9
    error_message = "subnets have addresses of their own"
  }
  assert {
    condition     = length(aws_route_table.stores.route) == 0
    error_message = "stores have no way out"
  }
  assert {
    condition     = alltrue([for each in aws_subnet.public : !each.map_public_ip_on_launch])
    error_message = "nothing gets a public address by itself"
  }
  assert {
    condition     = length(aws_default_security_group.closed.ingress) == 0 && length(aws_default_security_group.closed.egress) == 0
    error_message = "the default group is closed"
  }
}

run "ways_to_aws" {
  command = apply
  module {
    source = "./modules/network"
  }

  assert {
    condition = alltrue([
      for endpoint in values(aws_vpc_endpoint.interface) :
      startswith(endpoint.service_name, "com.amazonaws.ap-southeast-2.")
    ])
    error_message = "every endpoint is in Sydney"
  }
  assert {
    condition = alltrue(flatten([
      for name in ["kms", "secretsmanager", "logs", "sqs", "eks", "eks-auth"] : [
        for statement in jsondecode(aws_vpc_endpoint.interface[name].policy).Statement :
        statement.Condition.StringEquals["aws:ResourceAccount"] == "111122223333"
      ]
    ]))
    error_message = "through them, only resources of this account are reached"
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_vpc_endpoint.interface["s3"].policy).Statement :
      try(statement.Condition.StringEquals["aws:ResourceAccount"] == "111122223333", false)
      || (statement.Action == "s3:GetObject" && statement.Resource == "arn:aws:s3:::prod-ap-southeast-2-starport-layer-bucket/*")
    ])
    error_message = "through S3's, only our buckets and the layers of images"
  }
}

run "one_exit_for_a_small_installation" {
  command = apply
  module {
    source = "./modules/network"
  }
  variables {
    nat_per_zone = false
  }

  assert {
    condition     = length(aws_nat_gateway.exit) == 1 && length(distinct([for table in aws_route_table.pods : one(table.route).nat_gateway_id])) == 1
    error_message = "all zones share one way out"
  }
}
