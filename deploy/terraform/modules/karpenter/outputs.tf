output "manifests" {
  description = "EC2NodeClass and NodePool, as YAML."
  value       = local.manifests
}

output "queue_name" {
  description = "Where Karpenter hears of interruptions: its setting interruptionQueue."
  value       = aws_sqs_queue.interruptions.name
}
