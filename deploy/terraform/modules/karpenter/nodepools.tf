# The node pools, as manifests for `kubectl apply`: what may be started, and when it goes.

locals {
  manifests = templatefile("${path.module}/nodepools.yaml.tftpl", {
    cluster      = var.cluster_name
    node_role    = var.node_role.name
    volumes_key  = var.volumes_key_arn
    bottlerocket = var.bottlerocket_version
    gpu          = var.gpu
    general      = var.general
  })
}
