output "name" {
  description = "Name of the cluster."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Address of its API."
  value       = aws_eks_cluster.this.endpoint
}

output "arn" {
  description = "ARN of the cluster."
  value       = aws_eks_cluster.this.arn
}

output "security_group_id" {
  description = "The group of its nodes."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "node_role" {
  description = "Name and ARN of the nodes' role."
  value       = { name = aws_iam_role.node.name, arn = aws_iam_role.node.arn }
}

output "oidc_provider_arn" {
  description = "For roles of service accounts (IRSA)."
  value       = aws_iam_openid_connect_provider.this.arn
}
