import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Writes rounds of the same keys, so that the cleaner has something to remove: Compacted BOOTSTRAP TOPIC KEYS ROUNDS. */
public class Compacted {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        settings.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        settings.put("compression.type", "zstd");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            for (int round = 0; round < Integer.parseInt(arguments[3]); round++) {
                for (int key = 0; key < Integer.parseInt(arguments[2]); key++) {
                    producer.send(new ProducerRecord<>(arguments[1], "k" + key, round + "/" + key));
                }
                producer.flush();
                Thread.sleep(300);
            }
        }
    }
}
