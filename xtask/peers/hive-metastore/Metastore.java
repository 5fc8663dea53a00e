import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.logging.LogManager;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.conf.HiveConf.ConfVars;
import org.apache.hadoop.hive.metastore.DefaultPartitionExpressionProxy;
import org.apache.hadoop.hive.metastore.HiveMetaStore;
import org.apache.hadoop.hive.metastore.TUGIBasedProcessor;
import org.apache.hadoop.hive.metastore.txn.TxnDbUtil;
import org.apache.hadoop.hive.thrift.TUGIContainingTransport;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.server.TThreadPoolServer;
import org.apache.thrift.transport.TServerSocket;

/** Apache Hive's metastore on loopback, its database in memory: `java Metastore.java PORT FOLDER`. */
public class Metastore {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        Path folder = Path.of(arguments[1]).toAbsolutePath();
        // What a client is refused it is told; no need to say it here too.
        LogManager.getLogManager().reset();
        HiveConf.setLoadMetastoreConfig(true);
        HiveConf conf = new HiveConf();
        conf.setVar(ConfVars.METASTOREWAREHOUSE, folder.resolve("warehouse").toUri().toString());
        conf.setVar(ConfVars.METASTORECONNECTURLKEY, "jdbc:derby:memory:metastore;create=true");
        conf.set("datanucleus.schema.autoCreateAll", "true");
        conf.setBoolVar(ConfVars.METASTORE_SCHEMA_VERIFICATION, false);
        conf.setVar(ConfVars.METASTORE_CONNECTION_POOLING_TYPE, "dbcp");
        // The one that is Hive's default comes with all of Hive's engine.
        conf.setVar(ConfVars.METASTORE_EXPRESSION_PROXY_CLASS, DefaultPartitionExpressionProxy.class.getName());
        // As whoever keeps Iceberg tables in a metastore must set it: else no column can be dropped, moved or widened.
        conf.setBoolVar(ConfVars.METASTORE_DISALLOW_INCOMPATIBLE_COL_TYPE_CHANGES, false);
        conf.setClassLoader(Metastore.class.getClassLoader());
        for (String scheme : new String[] {"s3", "s3a", "gs", "abfs", "abfss", "hdfs", "oci"}) {
            conf.setClass("fs." + scheme + ".impl", Elsewhere.class, Elsewhere.class);
        }
        Elsewhere.folder = folder.resolve("elsewhere");

        // The tables of locks are not among those that are made on their own.
        TxnDbUtil.prepDb(conf);
        var handler = HiveMetaStore.newRetryingHMSHandler(new HiveMetaStore.HMSHandler("metastore", conf, false), conf);
        var address = new InetSocketAddress(InetAddress.getByName("127.0.0.1"), port);
        new TThreadPoolServer(new TThreadPoolServer.Args(new TServerSocket(address))
            .processor(new TUGIBasedProcessor<>(handler))
            .transportFactory(new TUGIContainingTransport.Factory())
            .protocolFactory(new TBinaryProtocol.Factory())).serve();
    }

    /** The metastore makes the folder of every table. Of one that is at another storage it makes it here. */
    public static class Elsewhere extends RawLocalFileSystem {
        static Path folder;
        private URI uri;
        private Path root;

        @Override
        public void initialize(URI uri, Configuration conf) throws IOException {
            this.uri = uri.resolve("/");
            root = Files.createDirectories(folder.resolve(uri.getScheme() + "/" + uri.getAuthority()));
            super.initialize(uri, conf);
        }

        @Override
        public URI getUri() {
            return uri == null ? super.getUri() : uri;
        }

        @Override
        protected void checkPath(org.apache.hadoop.fs.Path path) {}

        @Override
        public File pathToFile(org.apache.hadoop.fs.Path path) {
            return root.resolve(path.toUri().getPath().substring(1)).toFile();
        }
    }
}
