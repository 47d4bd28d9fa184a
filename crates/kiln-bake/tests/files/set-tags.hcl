target "m" {
  name = "m-${z}-${a}"
  matrix = {
    z = ["1","2"]
    a = ["x","y"]
  }
  args = { Z = z }
}
group "g" { targets = ["m", "h"] }
group "h" { targets = ["p"] }
target "p" { 
  inherits = ["q", "r"]
  output = ["out"]
  cache-from = ["a", "type=local,src=b"]
  cache-to = ["type=inline"]
  tags = ["x"]
  args = { V = "p" }
  entitlements = ["a"]
 }
target "q" { 
 tags = ["y"]
 args = { V = "q", W = "w" }
 cache-from = ["c"]
 output = ["type=docker"]
 platforms = ["linux/amd64"]
 no-cache-filter = ["a"]
 attest = ["type=sbom"]
 secret = ["id=z,env=Z"]
 }
target "r" { 
 args = { W = "r" }
 labels = { l = "1" }
 no-cache-filter = ["b"]
 attest = ["type=provenance,mode=max"]
 secret = ["id=y,env=Z"]
 annotations = ["x=y"]
 ulimits = ["nofile=1:2"]
 pull = false
 no-cache = false
 }
