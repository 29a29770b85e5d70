# Valkey: encrypted at rest and on the way, with a password, in two zones. What it carries are hints: jobs
# live in PostgreSQL, and a broker that was emptied loses none.

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-broker"
  description = "Valkey from the nodes of the cluster"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "nodes" {
  security_group_id            = aws_security_group.this.id
  description                  = "Valkey from the nodes of the cluster"
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

resource "aws_cloudwatch_log_group" "slow" {
  name              = "/aws/elasticache/${var.name}/slow"
  retention_in_days = 365
  kms_key_id        = var.logs_key_arn
}

resource "aws_elasticache_replication_group" "this" {
  # checkov:skip=CKV2_AWS_50: On with two nodes, which is the default; the check does not see through the condition.
  replication_group_id = var.name
  description          = "Hints and rate limits of ${var.name}"
  engine               = "valkey"
  engine_version       = "8.0"
  node_type            = var.broker.node_type
  parameter_group_name = "default.valkey8" # evicts nothing that has no end of its own

  num_cache_clusters         = var.broker.nodes
  automatic_failover_enabled = var.broker.nodes > 1
  multi_az_enabled           = var.broker.nodes > 1
  subnet_group_name          = aws_elasticache_subnet_group.this.name
  security_group_ids         = [aws_security_group.this.id]

  at_rest_encryption_enabled = true
  kms_key_id                 = var.key_arn
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  auth_token                 = var.token
  auth_token_update_strategy = "ROTATE"

  auto_minor_version_upgrade = true
  apply_immediately          = false
  maintenance_window         = "sun:17:00-sun:18:00"
  snapshot_retention_limit   = 1

  log_delivery_configuration {
    destination      = aws_cloudwatch_log_group.slow.name
    destination_type = "cloudwatch-logs"
    log_format       = "json"
    log_type         = "slow-log"
  }
}
