target "default" {
  secret       = ["id=x,src=y", { id = "z", env = "Q" }]
  ssh          = ["default", "key=a", { id = "k2", paths = ["p"] }]
  ulimits      = ["nofile=1024:2048"]
  shm-size     = "128m"
  network      = "host"
  extra-hosts  = { a = "1.2.3.4" }
  output       = [{ type = "local", dest = "out" }, "type=cacheonly"]
}
