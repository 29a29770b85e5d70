# Database and broker: encrypted, unreachable from outside, hard to lose.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                     = "interpretops"
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2"]
  client_security_group_id = "sg-nodes"
  key_arn                  = "arn:aws:kms:ap-southeast-2:111122223333:key/stores"
  logs_key_arn             = "arn:aws:kms:ap-southeast-2:111122223333:key/logs"
  where                    = { partition = "aws", account = "111122223333", region = "ap-southeast-2" }
}

run "database" {
  command = apply
  module {
    source = "./modules/database"
  }
  variables {
    database = {
      instance_class = "db.m7g.large", engine_version = "17", storage_gib = 50, max_gib = 500, multi_az = true,
      backup_days    = 14
    }
    owner_password         = "not-a-password"
    owner_password_version = 1
  }

  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == var.key_arn
    error_message = "storage and backups are under our key"
  }
  assert {
    condition     = !aws_db_instance.this.publicly_accessible && aws_vpc_security_group_ingress_rule.nodes.referenced_security_group_id == "sg-nodes"
    error_message = "only the nodes reach it"
  }
  assert {
    condition     = one([for each in aws_db_parameter_group.this.parameter : each.value if each.name == "rds.force_ssl"]) == "1"
    error_message = "only by TLS"
  }
  assert {
    condition     = one([for each in aws_db_parameter_group.this.parameter : each.value if each.name == "log_parameter_max_length"]) == "0"
    error_message = "values of parameters stay out of its log"
  }
  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.backup_retention_period == 14
    error_message = "it is backed up, and not deleted by accident"
  }
  assert {
    condition     = aws_db_instance.this.password == null
    error_message = "no password stands in the state"
  }
}

run "broker" {
  command = apply
  module {
    source = "./modules/broker"
  }
  variables {
    broker = { node_type = "cache.t4g.small", nodes = 2 }
    token  = "0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = aws_elasticache_replication_group.this.transit_encryption_enabled && aws_elasticache_replication_group.this.transit_encryption_mode == "required"
    error_message = "only by TLS"
  }
  assert {
    condition     = tobool(aws_elasticache_replication_group.this.at_rest_encryption_enabled) && aws_elasticache_replication_group.this.kms_key_id == var.key_arn
    error_message = "what is at rest is under our key"
  }
  assert {
    condition     = aws_elasticache_replication_group.this.engine == "valkey" && aws_elasticache_replication_group.this.automatic_failover_enabled
    error_message = "Valkey, in two zones"
  }
}
