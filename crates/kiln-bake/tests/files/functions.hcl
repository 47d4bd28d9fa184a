variable "V" { default = true }
variable "L" { default = ["a","b"] }
variable "X" {}
variable "D" { default = "${X}-d" }
target "default" {
  args = { V = V, L = join(",", L),   bool = V ? "1" : "0", num = 1 + 2, f = 1.5, t = timestamp() == "" ? "a" : "b", sub = substr("hello", 1, 3), fmt = format("%s-%03d", "a", 7), eq = equal(V, true) ? "y" : "n",  len = length(L), lk = lookup({a="1"}, "b", "def"), co = coalesce("", "z"), cl = join("|", concat(L, ["c"])), rr = regex_replace("a1b2", "[0-9]", "-"), tr = trimprefix("v1.2", "v"), sp = split(".", "1.2.3")[1], js = jsonencode({a=1}), cont = contains(L, "a") , sort = join(",", sort(["b","a"])), dist=join(",", distinct(["a","a"])), title = title("ab cd"), s256 = sha256("x"), b64=base64encode("x"), and = and(true, false), ks = join(",", keys({b=1,a=2})), fl = join(",", flatten([["a"],["b"]])), mx = max(1,3), ind = index(L, 1), el = element(L, 3), pi = parseint("12", 10), rv = reverse("abc"), st = strlen("abc"), tl = trimspace(" a "), cp = can_x }
}
can_x = "attr-${V}"
