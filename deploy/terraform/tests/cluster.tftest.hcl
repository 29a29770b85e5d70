# The cluster and what Karpenter may start.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  where           = { partition = "aws", account = "111122223333", region = "ap-southeast-2" }
  volumes_key_arn = "arn:aws:kms:ap-southeast-2:111122223333:key/volumes"
}

run "cluster" {
  command = apply
  module {
    source = "./modules/cluster"
  }
  variables {
    name               = "interpretops"
    kubernetes_version = "1.33"
    subnet_ids         = ["subnet-1", "subnet-2"]
    api_access_cidrs   = []
    admin_role_arns    = ["arn:aws:iam::111122223333:role/platform-admin"]
    system_nodes       = { instance_types = ["m7i.large"], min = 3, max = 6 }
    boundary_arn       = "arn:aws:iam::111122223333:policy/boundary"
    models             = { bucket_arn = "arn:aws:s3:::models", key_arn = "arn:aws:kms:ap-southeast-2:111122223333:key/data" }
    secrets_key_arn    = "arn:aws:kms:ap-southeast-2:111122223333:key/secrets"
    logs_key_arn       = "arn:aws:kms:ap-southeast-2:111122223333:key/logs"
  }

  assert {
    condition     = one(aws_eks_cluster.this.vpc_config).endpoint_private_access && !one(aws_eks_cluster.this.vpc_config).endpoint_public_access
    error_message = "its API is reached from the network only"
  }
  assert {
    condition     = one(aws_eks_cluster.this.encryption_config).resources == toset(["secrets"])
    error_message = "its secrets are encrypted"
  }
  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5
    error_message = "every log is on"
  }
  assert {
    condition     = one(aws_launch_template.system.metadata_options).http_tokens == "required" && one(aws_launch_template.system.metadata_options).http_put_response_hop_limit == 1
    error_message = "pods do not reach the role of their node"
  }
  assert {
    condition     = tobool(one(one(aws_launch_template.system.block_device_mappings).ebs).encrypted)
    error_message = "disks are encrypted"
  }
  assert {
    condition     = toset(keys(aws_iam_role_policy_attachment.node)) == toset(["AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly"])
    error_message = "a node may join and pull images, and no more"
  }
}

run "karpenter" {
  command = apply
  module {
    source = "./modules/karpenter"
  }
  variables {
    cluster_name         = "interpretops"
    cluster_arn          = "arn:aws:eks:ap-southeast-2:111122223333:cluster/interpretops"
    node_role            = { name = "interpretops-node", arn = "arn:aws:iam::111122223333:role/interpretops-node" }
    boundary_arn         = "arn:aws:iam::111122223333:policy/boundary"
    bottlerocket_version = "latest"
    gpu                  = { instance_types = ["g6e.xlarge", "p5.4xlarge"], capacity_types = ["on-demand"], max_gpus = 4, volume_gib = 200 }
    general              = { instance_types = ["m7i.large"], capacity_types = ["on-demand"], max_cpus = 32 }
  }

  assert {
    condition     = aws_iam_role.controller.permissions_boundary == "arn:aws:iam::111122223333:policy/boundary"
    error_message = "the region policy bounds it"
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.controller.policy).Statement :
      can(statement.Condition.StringEquals["aws:ResourceTag/kubernetes.io/cluster/interpretops"])
      if contains(flatten([statement.Action]), "ec2:TerminateInstances")
    ])
    error_message = "it ends only what it started"
  }
  assert {
    condition = [
      for document in slice(split("\n---\n", output.manifests), 1, 5) : "${yamldecode(document).kind} ${yamldecode(document).metadata.name}"
    ] == ["EC2NodeClass general", "EC2NodeClass gpu", "NodePool gpu", "NodePool general"]
    error_message = "the manifests are YAML, one pool for GPUs and one without"
  }
  assert {
    condition     = yamldecode(split("\n---\n", output.manifests)[3]).spec.template.metadata.labels["interpretops.io/pool"] == "gpu"
    error_message = "the pool has the label that the chart's values name"
  }
  assert {
    condition = one([
      for each in yamldecode(split("\n---\n", output.manifests)[3]).spec.template.spec.requirements : each.values
      if each.key == "node.kubernetes.io/instance-type"
    ]) == ["g6e.xlarge", "p5.4xlarge"]
    error_message = "instance types come from the values"
  }
  assert {
    condition     = yamldecode(split("\n---\n", output.manifests)[3]).spec.limits["nvidia.com/gpu"] == 4
    error_message = "and so does the most GPUs at a time"
  }
  assert {
    condition = alltrue(flatten([
      for document in slice(split("\n---\n", output.manifests), 1, 3) :
      [for each in yamldecode(document).spec.blockDeviceMappings : each.ebs.encrypted]
    ]))
    error_message = "disks are encrypted"
  }
}
