foo "x" {}
target "default" {
 context = "a/../b"
 output=["-","type=image,push=true,name=x"]
 dockerfile = "./q"
 cache-to=["a"]
}
