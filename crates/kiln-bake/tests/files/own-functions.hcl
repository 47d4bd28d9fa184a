variable "A" { 
 type = list(string)
 default = ["q"]
 description = "x"
}
variable "P" { default = null }
function "g" {
  params = [n]
  variadic_params = rest
  result = "${n}:${join("-", rest)}"
}
target "default" {
  tags = [g("a", "b", "c"), P == null ? "none" : P, "${A[0]}"]
  args = { X = try("a", "b") }
}
