target "default" {
  args = {
    A = "%{ for s in ["a", "b"] }${s},%{ endfor }end"
    B = "x %{~ if false ~} n %{~ else ~} y %{~ endif ~} z"
    C = <<EOT
%{ for k, v in {a="1", b="2"} ~}
${k}=${v}
%{ endfor ~}
EOT
    D = try({a="1"}.b, "d")
    E = can({a="1"}.b)
    F = "a ${~ "b" ~} c"
  }
}
