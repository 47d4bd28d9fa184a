variable "TAG" { default = "latest" }
variable "N" { default = 3 }
group "default" { targets = ["app", "multi"] }
target "_common" {
 args = { A = "1", N = N } 
 labels = { "x.y" = "z" }
}
function "f" {
 params = [a]
 result = upper("${a}-x")
}
target "app" {
  inherits = ["_common"]
  context = "./src"
  dockerfile = "Dockerfile.x"
  tags = ["r/app:${TAG}", "r/app:${f("q")}"]
  args = { B = TAG != "latest" ? "yes" : null }
  platforms = ["linux/amd64", "linux/arm64"]
  output = ["type=docker"]
  cache-from = ["type=registry,ref=x"]
  contexts = { base = "target:multi-a" }
  no-cache = true
  secret = ["id=a,src=b"]
}
target "multi" {
  matrix = { 
    v = ["a", "b.c"]
    item = [{n="x"}] 
  }
  name = "multi-${replace(v, ".", "-")}"
  target = v
  args = { V = item.n }
  dockerfile-inline = <<EOT
FROM scratch
EOT
  no-cache-filter = ["x"]
  pull = true
  network = "host"
  shm-size = "1g"
  ulimits = ["nofile=1024:1024"]
  extra-hosts = { a = "1.2.3.4" }
  entitlements = ["network.host"]
  call = "check"
  description = "q"
  attest = ["type=provenance,mode=max"]
}
