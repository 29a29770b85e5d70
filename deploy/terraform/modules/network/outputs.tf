output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "pod_subnet_ids" {
  description = "Subnets of nodes and pods."
  value       = [for subnet in aws_subnet.pods : subnet.id]
}

output "store_subnet_ids" {
  description = "Subnets of the database and the broker, without a way out."
  value       = [for subnet in aws_subnet.stores : subnet.id]
}

output "s3_endpoint_id" {
  description = "The way to S3."
  value       = aws_vpc_endpoint.interface["s3"].id
}
