group "default" { targets = ["x"] }
target "x" {
  args = {
    A = "%{ if true }y%{ endif }"
    "B.c" = 1.0
    C = <<-EOT
      two
        lines
    EOT
    D = [for s in ["a","b"]: upper(s)][0]
    E = {for k, v in {a="1"}: k => v}.a
    F = -1
    G = !true
    H = 7 % 3
    I = "x" == "x" ? 1 : 2
  }
  tags = [for t in ["1","2"] : "r/x:${t}"]
}
target "y" {
  inherits = ["x"]
  args = { A = null, "B.c" = "n" }
  labels = { "a" = null }
}
target "m" {
  matrix = { v = ["1", "2"] }
  name = "m${v}"
  inherits = ["y"]
  contexts = { a = "./b/../c", b = "docker-image://alpine" }
}
